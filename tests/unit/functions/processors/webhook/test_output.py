"""Posting mails, against a real receiver."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from functions.errors import ConfigError, DeliveryFault, HeldBack, Permanent, Temporary
from functions.message.event.objects import StoredMail, StoredObject
from functions.options.secrets import SecretResolver
from functions.processors.base import Job, Processor
from functions.processors.context import BuildContext
from functions.processors.registry import OUTPUTS, build_processor
from functions.processors.webhook.output import LONGEST_WAIT, Webhook, retry_after
from tests.support.mails.jobs import Receipts, fault_of, job_of
from tests.support.servers import receiver as faults
from tests.support.servers.receiver import Receiver, answer, in_turn, receiving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
CANARY = "c4n4ry"

Make = Callable[..., Webhook]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def make(receiver: Receiver) -> Iterator[Make]:
    made: list[Processor] = []

    def build(environ: dict[str, str] | None = None, **given: Any) -> Webhook:
        options = OUTPUTS.parse({"type": "webhook", "url": f"{receiver.url}/in", **given})
        resolver = SecretResolver(Path(), environ or {})
        processor = build_processor(options, "hook", BuildContext(Path(), environ or {}, resolver))
        assert isinstance(processor, Webhook)
        made.append(processor)
        return processor

    yield build
    for each in made:
        each.close()


def job(**about: Any) -> Job:
    return job_of(**about)._replace(key="0123abcd")


def test_a_mail_is_posted_signed(receiver: Receiver, make: Make) -> None:
    import standardwebhooks

    make(secrets=[SECRET, OTHER], headers={"X-Team": "a"}, auth={"user": "ann", "pass": "pw"}).process(job())
    (one,) = receiver.received
    assert one.target == "/in"
    assert one.id == "msg_0123abcd"
    assert one.headers["x-team"] == "a"
    assert one.headers["authorization"] == "Basic YW5uOnB3"
    for secret in (SECRET, OTHER):
        assert standardwebhooks.Webhook(secret).verify(one.body.decode(), one.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook("whsec_" + "A" * 32).verify(one.body.decode(), one.headers)


def test_the_older_header_signs_too(receiver: Receiver, make: Make) -> None:
    import hashlib
    import hmac

    make(hmac={"secret": "key"}, format="raw").process(job())
    (one,) = receiver.received
    text = f"{receiver.url}/in\nPOST\n{one.headers['x-smtp-relay-time']}\n".encode() + one.body
    assert one.headers["x-smtp-relay"] == hmac.new(b"key", text, hashlib.sha256).hexdigest()


def test_the_id_stays_and_the_time_is_that_of_the_attempt(receiver: Receiver, make: Make) -> None:
    receiver.react = in_turn(answer(500), answer(200))
    hook, mail = make(secret=SECRET), job()
    with pytest.raises(Temporary):
        hook.process(mail)
    time.sleep(1.01)
    hook.process(mail)
    first, second = receiver.received
    assert first.id == second.id
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_statuses_that_end_it(receiver: Receiver, make: Make, status: int) -> None:
    receiver.react = answer(status, b"")
    receipts = Receipts()
    make().process(job(once=receipts))
    assert receipts.done == {"webhook": f"HTTP {status}"}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_statuses_that_ask_for_another_attempt(receiver: Receiver, make: Make, status: int) -> None:
    receiver.react = answer(status, retry_after="120")
    fault = fault_of(lambda: make().process(job()))
    assert isinstance(fault, Temporary)
    assert fault.retry_after == 120
    assert fault.give_up_after is None
    assert not fault.in_doubt
    assert f"HTTP status {status}" in fault.reason


@pytest.mark.parametrize(
    "status", [300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 409, 422, 451]
)
def test_statuses_of_a_broken_deployment(receiver: Receiver, make: Make, status: int) -> None:
    receiver.react = answer(status, b"" if status == 304 else b"x")
    fault = fault_of(lambda: make(giveUp4xx="2h").process(job()))
    assert isinstance(fault, Temporary)
    assert fault.give_up_after == 7200.0


def test_410_is_the_end(receiver: Receiver, make: Make) -> None:
    receiver.react = answer(410)
    assert isinstance(fault_of(lambda: make().process(job())), Permanent)


def test_a_redirect_names_only_the_host_of_its_target(receiver: Receiver, make: Make) -> None:
    receiver.react = answer(302, location=f"https://evil.example.com/{CANARY}?{CANARY}")
    fault = fault_of(lambda: make().process(job()))
    assert "redirects" in fault.reason or "redirect" in fault.reason
    assert "evil.example.com" in fault.reason
    assert CANARY not in fault.reason
    assert len(receiver.received) == 1


@pytest.mark.parametrize("fault", sorted(faults.FAULTS))
def test_every_fault_is_temporary_and_never_in_doubt(receiver: Receiver, make: Make, fault: str) -> None:
    receiver.react = faults.FAULTS[fault]
    found = fault_of(lambda: make(timeout="500ms").process(job()))
    assert type(found) is Temporary
    assert not found.in_doubt


def test_nothing_of_url_headers_or_answer_is_told(
    receiver: Receiver, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Also not by a server that repeats what it was sent."""
    caplog.set_level(logging.DEBUG)
    environ = {"HOOK": f"{receiver.url}/{CANARY}?{CANARY}", "KEY": CANARY}
    given = {"url": "env:HOOK", "headers": {"X-Key": "env:KEY"}, "auth": {"token": "env:KEY"}}
    hook = make(environ, **given)
    reasons = []
    for status in (404, 500, 302, 410):
        receiver.react = answer(status, CANARY.encode(), X_Echo=CANARY, location=f"/{CANARY}")
        reasons.append(fault_of(lambda: hook.process(job())).reason)
    receiver.react = faults.noise
    reasons += [fault_of(lambda: hook.process(job())).reason for _ in range(8)]
    assert receiver.received[0].headers["x-key"] == CANARY
    assert CANARY not in "".join(reasons) + caplog.text
    assert all(f"127.0.0.1:{receiver.port}" in one for one in reasons[:4])


@pytest.mark.parametrize(
    ("environ", "given"),
    [
        ({"U": f"ftp://{CANARY}"}, {"url": "env:U"}),
        ({"U": f"https://{CANARY}:x/"}, {"url": "env:U"}),
        ({"U": f"https://ann:{CANARY}@h.example.com/"}, {"url": "env:U"}),
        ({"U": CANARY}, {"secret": "env:U"}),
        ({"U": f"{CANARY}\r\nX: y"}, {"headers": {"X-Key": "env:U"}}),
        ({"U": f"{CANARY}\r\nX: y"}, {"auth": {"token": "env:U"}}),
        ({}, {"url": "env:U"}),
    ],
)
def test_a_secret_that_cannot_be_used_is_not_shown(
    make: Make, environ: dict[str, str], given: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as found:
        make(environ, **given)
    assert CANARY not in str(found.value)


def test_a_server_that_fails_is_left_alone(receiver: Receiver, make: Make) -> None:
    receiver.react = answer(503)
    hook = make(giveUpAfter="8s")
    found: list[DeliveryFault] = [fault_of(lambda: hook.process(job())) for _ in range(20)]
    assert len(receiver.received) == 5
    assert [type(one) for one in found] == [Temporary] * 5 + [HeldBack] * 15
    assert hook.room == 0
    receiver.react = answer(200)
    end = time.monotonic() + 10
    while not hook.room:
        assert time.monotonic() < end
        time.sleep(0.02)
    hook.process(job())
    assert hook.room > 1


def test_a_broken_deployment_opens_no_circuit(receiver: Receiver, make: Make) -> None:
    receiver.react = answer(404)
    hook = make()
    assert {type(fault_of(lambda: hook.process(job()))) for _ in range(20)} == {Temporary}


def test_one_trial_at_a_time(receiver: Receiver, make: Make) -> None:
    receiver.react = answer(503)
    hook = make(giveUpAfter="8s")
    for _ in range(5):
        fault_of(lambda: hook.process(job()))
    time.sleep(1.1)
    receiver.react = faults.hang
    thread = threading.Thread(target=lambda: fault_of(lambda: hook.process(job())))
    thread.start()
    faults.wait_for(receiver, 6)
    assert isinstance(fault_of(lambda: hook.process(job())), HeldBack)
    receiver.released.set()
    thread.join(10)


def test_the_rate_is_kept(receiver: Receiver, make: Make) -> None:
    hook = make(maxRate=5)
    found = []
    for _ in range(20):
        try:
            hook.process(job())
        except HeldBack as held:
            found.append(held.retry_after)
    assert len(receiver.received) <= 7
    assert all(0 < wait <= 0.2 for wait in found if wait is not None)


def test_metadata_services_are_not_reached(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    hook = make(url="http://innocent.example.com/")
    for _ in range(10):
        fault = fault_of(lambda: hook.process(job()))
        assert type(fault) is Temporary
        assert fault.give_up_after == 86_400.0
        assert "metadata" in fault.reason


class Store(Processor):
    def __init__(self) -> None:
        self.there: StoredMail | None = None
        self.links = 0

    def stored(self, job: Job) -> StoredMail | None:
        return self.there

    def link(self, key: str, seconds: int) -> str:
        self.links += 1
        return f"https://bucket.example.com/{key}?X-Amz-Expires={seconds}&n={self.links}&{CANARY}"


class Peer:
    label = "s3"

    def __init__(self, processor: Processor) -> None:
        self.processor = processor


def test_it_waits_for_the_stored_mail(
    receiver: Receiver, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """And makes a link anew at each attempt, which no log shows."""
    caplog.set_level(logging.DEBUG)
    store = Store()
    mail = job()._replace(peers=(Peer(store),))
    hook = make(stored="s3", presign="10m", secret=SECRET)
    fault = fault_of(lambda: hook.process(mail))
    assert type(fault) is Temporary
    assert "waits for the output s3" in fault.reason
    assert receiver.received == []
    store.there = StoredMail({"raw": StoredObject("s3://mails/k", "mails", "k")})
    receiver.react = in_turn(answer(500), answer(200))
    reason = fault_of(lambda: hook.process(mail)).reason
    hook.process(mail)
    first, second = (one.body.decode() for one in receiver.received)
    assert "X-Amz-Expires=600&n=1" in first
    assert "X-Amz-Expires=600&n=2" in second
    assert CANARY not in reason + caplog.text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        (" 0 ", 0.0),
        ("999999999999999", LONGEST_WAIT),
        (formatdate(1_000_100, usegmt=True), 100.0),
        (formatdate(999_000, usegmt=True), 0.0),
        (formatdate(9_999_999, usegmt=True), LONGEST_WAIT),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("Mon, 99 Nov 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, now=1_000_000.0) == seconds
