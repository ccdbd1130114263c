"""Dead letters of a bucket: list, show, replay, drop, and the replay of kept mail."""

from __future__ import annotations

import pytest

from functions.bucket.deadletters import BucketDeadLetters
from functions.bucket.runner import RunResult
from functions.bucket.sweep import WINDOW, sweep
from functions.errors import Permanent, Temporary
from functions.ids import uuid7_ms
from functions.message.envelope import Refused
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import KeptSelection, Selection
from tests.support.clouds.bucket_runner import Place
from tests.support.mails.spooled import MAIL


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def letters(place: Place) -> BucketDeadLetters:
    return BucketDeadLetters(place.store, place.prefix, place.notify)


def park(place: Place, *, both: bool = False) -> str:
    """A mail whose output a (or both) is dead."""
    key, _ = place.put()
    place.a.always = Permanent("no such queue", enhanced="5.1.2")
    place.b.always = Permanent("other reason") if both else None
    assert place.run(key).result is RunResult.PARKED
    place.a.always = place.b.always = None
    return key


def all_of(letters: BucketDeadLetters, **selection: str) -> list[DeadRecord]:
    return list(letters.list(Selection(**selection)))  # type: ignore[arg-type]


def rung_by_sweep(place: Place) -> list[str]:
    place.notified.clear()
    sweep(
        place.store,
        place.prefix,
        place.notify,
        now=place.now,
        since=place.now - WINDOW,
        seconds_left=lambda: 1000,
    )
    return place.notified


def test_lists_the_selected_records(place: Place, letters: BucketDeadLetters) -> None:
    park(place)
    park(place, both=True)
    assert sorted(record.output for record in all_of(letters)) == ["a", "a", "b"]
    assert [record.output for record in all_of(letters, reason="SUCH QUEUE")] == ["a", "a"]
    assert [record.output for record in all_of(letters, output="b")] == ["b"]
    one = all_of(letters)[0]
    assert all_of(letters, ids=(one.id,))[0].id == one.id  # type: ignore[arg-type]
    assert all_of(letters, ids=(f"{one.id}/{one.key}",)) == [one]  # type: ignore[arg-type]
    assert all_of(letters, ids=("../../x",)) == []  # type: ignore[arg-type]


def test_shows_the_mail(place: Place, letters: BucketDeadLetters) -> None:
    park(place)
    (record,) = all_of(letters)
    shown = letters.show(record)
    assert shown.envelope is not None
    assert shown.envelope.id == record.id
    assert shown.head == MAIL


def test_replay_is_delivered_by_the_next_sweep(place: Place, letters: BucketDeadLetters) -> None:
    key = park(place)
    place.now += 86_400 * 5
    assert rung_by_sweep(place) == []
    letters.replay(all_of(letters)[0], now=False)
    assert rung_by_sweep(place) == [key], "whatever its age"
    assert place.run(key).result is RunResult.FINISHED
    assert place.b.calls == 1, "what was done is not repeated"
    assert not place.store.objects


def test_replay_now_notifies(place: Place, letters: BucketDeadLetters) -> None:
    key = park(place)
    letters.replay(all_of(letters)[0], now=True)
    assert place.notified == [key]


def test_a_replay_that_fails_again_follows_the_steps(place: Place, letters: BucketDeadLetters) -> None:
    key = park(place)
    letters.replay(all_of(letters)[0], now=False)
    place.a.always = Temporary("still down")
    assert place.run(key).result is RunResult.LATER
    place.now += 300
    assert rung_by_sweep(place) == []


def test_replay_of_one_leaves_the_other_dead(place: Place, letters: BucketDeadLetters) -> None:
    key = park(place, both=True)
    (a, _) = sorted(all_of(letters), key=lambda record: record.output)
    letters.replay(a, now=True)
    assert place.run(key).result is RunResult.PARKED
    assert [record.output for record in all_of(letters)] == ["b"]
    place.now += 86_400
    assert rung_by_sweep(place) == []


def test_drop_of_the_last_takes_the_mail_along(place: Place, letters: BucketDeadLetters) -> None:
    park(place, both=True)
    first, second = all_of(letters)
    letters.drop(first)
    assert place.below("spool/")
    place.now += 86_400
    assert rung_by_sweep(place) == [], "still parked"
    letters.drop(second)
    assert not place.store.objects


def test_drop_while_another_output_is_still_tried(place: Place, letters: BucketDeadLetters) -> None:
    key, _ = place.put()
    place.a.always, place.b.always = Permanent("no"), Temporary("later")
    assert place.run(key).result is RunResult.LATER
    letters.drop(all_of(letters)[0])
    assert place.below("spool/"), "the other output still needs it"
    place.a.always = place.b.always = None
    assert place.run(key).result is RunResult.FINISHED
    assert place.a.calls == 1, "what was dropped is not tried"
    assert not place.store.objects


def test_a_record_whose_mail_is_gone(place: Place, letters: BucketDeadLetters) -> None:
    key = park(place)
    del place.store.objects[key]
    (record,) = all_of(letters)
    assert letters.show(record).envelope is None
    with pytest.raises(Permanent, match="not in the spool"):
        letters.replay(record, now=False)
    letters.drop(record)
    assert not place.store.objects


def test_refused_recipients_cannot_be_replayed(place: Place, letters: BucketDeadLetters) -> None:
    key, _ = place.put(refused=(Refused(address="no@example.com", reason="550", code="5.7.1"),))
    place.run(key)
    (record,) = all_of(letters)
    with pytest.raises(Permanent, match="refused"):
        letters.replay(record, now=False)
    letters.drop(record)
    assert not place.store.objects


def test_replay_of_kept_mail_is_idempotent_until_it_is_delivered() -> None:
    place = Place(keep=True)
    letters = BucketDeadLetters(place.store, place.prefix, place.notify)
    key, envelope = place.put()
    place.run(key)
    assert letters.replay_kept(envelope.id, now=True) == 1
    assert letters.replay_kept(envelope.id, now=False) == 1
    assert place.notified == [key]
    place.run(key)
    assert place.a.effects == {(envelope.id, 0): 1, (envelope.id, 1): 1}
    assert letters.replay_kept(envelope.id, now=False) == 2, "a second replay is a choice"
    with pytest.raises(Permanent, match="kept"):
        letters.replay_kept("01a2037e-0ecf-7600-b2c1-0c663d57cd8b", now=False)
    with pytest.raises(Permanent, match="kept"):
        letters.replay_kept("nonsense", now=False)


def test_kept_mails_by_time_and_by_key() -> None:
    place = Place(keep=True)
    letters = BucketDeadLetters(place.store, place.prefix, place.notify)
    sent = []
    for age in (3 * 86_400, 7_200, 60):
        place.now = 0.0
        key, envelope = place.put(age=age)
        place.run(key)
        sent.append(envelope)
    old, middle, new = sent
    assert list(letters.kept(KeptSelection())) == [old.id, middle.id, new.id]
    since, until = uuid7_ms(middle.id), uuid7_ms(new.id)
    assert list(letters.kept(KeptSelection(since=since))) == [middle.id, new.id]
    assert list(letters.kept(KeptSelection(since=since, until=until))) == [middle.id]
    assert list(letters.kept(KeptSelection(prefix=f"{old.received_at:%Y/%m/%d}/"))) == [old.id]
