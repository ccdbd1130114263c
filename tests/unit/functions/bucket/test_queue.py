"""The mails that wait in a bucket: list, and the notification that makes one due."""

from __future__ import annotations

import pytest

from functions.bucket.queue import BucketQueue
from functions.bucket.runner import RunResult
from functions.errors import ConfigError, Permanent
from functions.ids import uuid7_ms
from functions.spool.queue import QueuedMail
from tests.support.clouds.bucket_runner import Place


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def queue(place: Place) -> BucketQueue:
    return BucketQueue(place.store, place.prefix, place.notify)


def listed(queue: BucketQueue) -> dict[str, QueuedMail]:
    return {mail.id: mail for mail in queue.mails()}


def id_of(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".eml")


def test_a_mail_that_waits_is_listed_with_its_envelope(place: Place, queue: BucketQueue) -> None:
    key, _ = place.put()
    found = listed(queue)[id_of(key)]
    assert found.state == "waiting"
    assert found.reverse_path
    assert found.recipients
    assert (found.attempts, found.next, found.dead) == (None, None, ())
    assert list(queue.ids()) == [(id_of(key), uuid7_ms(id_of(key)))]


def test_a_parked_mail_is_listed_with_its_dead_records_and_is_not_notified(
    place: Place, queue: BucketQueue
) -> None:
    waiting, _ = place.put()
    parked, _ = place.put()
    place.a.always = Permanent("no such queue", enhanced="5.1.2")
    assert place.run(parked).result is RunResult.PARKED
    found = listed(queue)
    assert found[id_of(parked)].state == "parked"
    assert [record.reason for record in found[id_of(parked)].dead] == ["no such queue"]
    assert [record.reason for record in queue.buried(id_of(parked))] == ["no such queue"]
    assert [each for each, _ in queue.ids(parked=False)] == [id_of(waiting)]
    place.notified.clear()
    assert queue.retry(None) == [id_of(waiting)]
    assert queue.retry([id_of(parked)]) == []
    assert place.notified == [waiting]


def test_only_mails_of_the_given_ids_are_read(place: Place, queue: BucketQueue) -> None:
    key, _ = place.put()
    other, _ = place.put()
    read: list[str] = []
    place.store.fails = lambda verb, key: bool(verb == "read" and read.append(key))  # type: ignore[func-returns-value]
    assert [mail.id for mail in queue.mails([id_of(key)])] == [id_of(key)]
    assert other not in read


@pytest.mark.parametrize(
    ("content", "state"),
    [(b"no mail", "unreadable"), (b"X-SMTP-Relay-Envelope: e30=\r\n\r\n", "unreadable"), (b"", "waiting")],
)
def test_an_object_that_is_no_mail_is_listed(
    place: Place, queue: BucketQueue, content: bytes, state: str
) -> None:
    key, _ = place.put()
    place.store.objects[key] = content
    assert listed(queue)[id_of(key)].state == state


def test_a_server_that_delivers_cannot_be_notified(place: Place) -> None:
    with pytest.raises(ConfigError, match="every 5 minutes"):
        BucketQueue(place.store, place.prefix, None).retry(None)
