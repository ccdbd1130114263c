"""One container that stores, publishes and sends itself: the AWS outputs in local mode, no function."""

from __future__ import annotations

import base64
import json
import smtplib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest

from functions.options.jsonc import parse
from tests.support.clouds.aws_flows import Targets
from tests.support.clouds.aws_flows import mail as rich_mail
from tests.support.clouds.aws_stack import Stack
from tests.support.clouds.ministack import Ministack
from tests.support.mails.stored import strip_added_fields
from tests.support.net import HOST, PATIENCE, wait_until
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.servers.relay import ROOT, Relay

Stacks = Callable[..., Stack]
Relays = Callable[..., Relay]

MAIL: Final = b"From: a@example.com\r\nSubject: \xe9\r\nBcc: secret@example.com\r\n\r\nhello\r\n"
UNAVAILABLE: Final = Says(503, b"{}", {"x-amzn-ErrorType": "ServiceUnavailable"})


class Ses:
    """Accepts mails, after refusing `refusals`; while `down`, it accepts none."""

    def __init__(self, api: Endpoint) -> None:
        self.url = api.url.partition("/ask")[0]
        self.refusals: list[Says] = []
        self.down = False
        self.refused = 0
        self.mails: list[tuple[list[str], bytes]] = []
        api.answer = self._answer

    @property
    def output(self) -> dict[str, Any]:
        """The options of an output that sends here."""
        return {"type": "aws", "ses": {"maxSendRate": 100}, "sesClient": {"endpoint": self.url}}

    def _answer(self, asked: Asked) -> Says:
        if asked.path.endswith("/account"):
            return Says(body=b'{"SendQuota": {"MaxSendRate": 100}, "SendingEnabled": true}')
        if self.down or self.refusals:
            self.refused += 1
            return UNAVAILABLE if self.down else self.refusals.pop(0)
        request = json.loads(asked.body)
        raw = base64.b64decode(request["Content"]["Raw"]["Data"])
        self.mails.append((request["Destination"]["ToAddresses"], raw))
        return Says(body=b'{"MessageId": "m"}')


@pytest.fixture
def ses() -> Iterator[Ses]:
    with endpoint() as api:
        yield Ses(api)


@pytest.fixture
def queue_stack(stack_for: Stacks) -> Stack:
    """A bucket and the queue `out`; there is no function, and S3 sends no events."""
    out = {"type": "aws", "pubsub": {"topic": "{queue:out}"}}
    return stack_for({"in": [out]}, deployed=False, notify=False)


def start(new_relay: Relays, aws: Ministack, outputs: list[Any], **config: Any) -> Relay:
    """A relay with a spool folder and these outputs, for mail from loopback."""
    flow = {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": outputs}
    relay = new_relay({"flows": {"all": flow}, **config}, env=aws.environment)
    return relay.start()


def send(relay: Relay, mail: bytes = MAIL, *recipients: str) -> Mapping[str, Any]:
    with smtplib.SMTP(HOST, relay.port, timeout=30) as client:
        return client.sendmail("a@example.com", recipients or ("b@example.com",), mail, ["BODY=8BITMIME"])


def test_all_that_a_deployed_stack_does(aws: Ministack, new_relay: Relays) -> None:
    """The configuration of the deployed app's test: raw mail, attachments, text, HTML, both kinds of
    messages, and SES, from a process alone."""
    targets = Targets(aws)
    relay = new_relay({**targets.config(), "delivery": {"waitFor": "all"}}, env=aws.environment).start()
    with smtplib.SMTP(HOST, relay.port, timeout=30) as client:
        client.sendmail("ada@example.com", [targets.recipient], rich_mail(targets.recipient))
    targets.check_one()
    assert relay.stop() == 0
    assert "Traceback" not in relay.log()


def test_the_references_relay_configuration_sends(new_relay: Relays, aws: Ministack, ses: Ses) -> None:
    config = parse((ROOT / "configs" / "aws-smtp-relay.jsonc").read_text())
    del config["$schema"]
    config["flows"]["ses"]["outputs"][0]["sesClient"] = {"endpoint": ses.url}
    relay = new_relay(config, env=aws.environment).start()
    send(relay, MAIL, "b@example.com", "c@example.com")
    wait_until(lambda: bool(ses.mails), seconds=PATIENCE, what="the mail to be sent")
    ((recipients, raw),) = ses.mails
    assert recipients == ["b@example.com", "c@example.com"]
    assert strip_added_fields(raw) == MAIL.replace(b"Bcc: secret@example.com\r\n", b"")


def test_small_and_large_mails_are_stored_published_and_sent(
    queue_stack: Stack, new_relay: Relays, aws: Ministack, ses: Ses
) -> None:
    output = {
        **ses.output,
        "storage": {"bucket": queue_stack.target, "path": "in/", "addRawHeaders": False},
        "s3client": {"endpoint": aws.url, "forcePathStyle": True, "region": "us-east-1"},
        "pubsub": {"topic": queue_stack.queues["out"]},
    }
    relay = start(new_relay, aws, [output])
    large = MAIL + b"x" * 70 + b"\r\n" * 300_000  # larger than the mails that the spool keeps in its database
    for mail in (MAIL, large):
        send(relay, mail)
    wait_until(lambda: len(ses.mails) == 2, seconds=PATIENCE, what="both mails to be sent")
    stored = queue_stack.stored()
    assert sorted(map(strip_added_fields, stored.values()), key=len) == [MAIL, large]
    events = queue_stack.messages("out", least=2)
    assert {event["data"]["storage"]["url"] for event in events} == {
        f"s3://{queue_stack.target}/{key}" for key in stored
    }


def test_what_fails_is_tried_again_and_nothing_is_done_twice(
    queue_stack: Stack, new_relay: Relays, aws: Ministack, ses: Ses
) -> None:
    ses.refusals = [UNAVAILABLE, UNAVAILABLE]
    output = {**ses.output, "pubsub": {"topic": queue_stack.queues["out"]}}
    relay = start(new_relay, aws, [output], delivery={"retry": {"first": 100, "max": 200}})
    send(relay)
    wait_until(lambda: bool(ses.mails), seconds=PATIENCE, what="the mail to be sent")
    assert ses.refused == 2
    assert len(queue_stack.messages("out")) == 1
    assert queue_stack.messages("out", seconds=0.3) == []


def test_killed_and_started_again_it_sends_once(new_relay: Relays, aws: Ministack, ses: Ses) -> None:
    ses.down = True
    relay = start(new_relay, aws, [ses.output], delivery={"retry": {"first": 100, "max": 200}})
    subjects = {b"Subject: %d" % number for number in range(5)}
    for subject in subjects:
        send(relay, subject + b"\r\n\r\nx\r\n")
    wait_until(lambda: ses.refused > 5, seconds=PATIENCE, what="refusals")
    relay.kill()
    ses.down = False
    relay.restart()
    wait_until(lambda: len(ses.mails) >= 5, seconds=PATIENCE, what="the mails to be sent")
    assert relay.stop() == 0  # all running work is finished
    assert {strip_added_fields(raw).partition(b"\r\n")[0] for _, raw in ses.mails} == subjects
    assert len(ses.mails) == 5


def test_a_client_that_waits_hears_that_no_output_can_take_it(
    new_relay: Relays, aws: Ministack, ses: Ses
) -> None:
    unverified = b'{"message": "Email address is not verified."}'
    ses.refusals = [Says(400, unverified, {"x-amzn-ErrorType": "MessageRejected"})]
    relay = start(new_relay, aws, [ses.output], delivery={"waitFor": "all"})
    with pytest.raises(smtplib.SMTPDataError) as refused:
        send(relay)
    assert refused.value.smtp_code == 554
    assert refused.value.smtp_error.startswith(b"5.7.1")
    assert b"verified" not in refused.value.smtp_error, "what SES says is for the log"


class TestOutOfABucket:
    """`delivery.mode: "in-process"` with a spool in S3: no queue, no function."""

    @pytest.fixture
    def bucket(self, stack_for: Stacks, ses: Ses) -> Stack:
        outputs = [
            {"type": "aws", "storage": {"bucket": "{bucket}", "addRawHeaders": False}},
            {"type": "aws", "name": "queue", "pubsub": {"topic": "{queue:out}"}},
            {**ses.output, "name": "ses"},
        ]
        delivery = {"mode": "in-process", "retry": {"first": 100, "max": 200}}
        return stack_for({"in": outputs}, settings={"delivery": delivery}, deployed=False, notify=False)

    @pytest.fixture
    def start(self, new_relay: Relays, aws: Ministack, bucket: Stack) -> Callable[..., Relay]:
        def run(**config: Any) -> Relay:
            raw = bucket.raw
            flow = {"filters": [{"type": "whitelist", "ips": [HOST]}], **raw["flows"]["in"]}
            environment = {**aws.environment, "SMTP_RELAY_RECEIPTS_TABLE": bucket.table}
            return new_relay({**raw, "flows": {"in": flow}, **config}, env=environment)

        return run

    def test_each_output_once(self, start: Callable[..., Relay], bucket: Stack, ses: Ses) -> None:
        ses.refusals = [UNAVAILABLE]
        relay = start().start()
        large = MAIL + b"\r\n" * 1_500_000
        for mail in (MAIL, large):
            send(relay, mail)
        bucket.until(lambda: not bucket.spooled(), "the spool to be empty")
        assert sorted(map(strip_added_fields, bucket.stored().values()), key=len) == [MAIL, large]
        assert len(bucket.messages("out", least=2)) == len(ses.mails) == 2
        assert relay.stop() == 0
        assert "Traceback" not in relay.log()

    def test_killed_and_started_again(self, start: Callable[..., Relay], bucket: Stack, ses: Ses) -> None:
        ses.down = True
        relay = start(workers=2).start()
        for _ in range(5):
            send(relay)
        wait_until(lambda: ses.refused > 5, seconds=PATIENCE, what="refusals")
        relay.kill()
        ses.down = False
        assert len(bucket.spooled()) == 5
        bucket.expire_claims()
        relay.restart()
        bucket.until(lambda: not bucket.spooled(), "the spool to be empty")
        assert relay.stop() == 0
        assert len(bucket.stored()) == len(bucket.messages("out", least=5)) == len(ses.mails) == 5

    def test_beside_it_people_count_and_replay(
        self, start: Callable[..., Relay], bucket: Stack, ses: Ses
    ) -> None:
        unverified = b'{"message": "Email address is not verified."}'
        ses.refusals = [Says(400, unverified, {"x-amzn-ErrorType": "MessageRejected"})]
        relay = start().start()
        send(relay)
        bucket.until(lambda: len(bucket.dead_records()) == 1, "the dead record")
        waiting = bucket.put(age=3600.0, flows=("elsewhere",))
        assert bucket.command("sweep").startswith("1 unfinished, the oldest 36")
        bucket.s3.delete_object(Bucket=bucket.bucket, Key=waiting)
        (record,) = bucket.dead_records()
        assert "1 replayed" in bucket.command("deadletter", "replay", "--now", record["id"])
        assert bucket.dead_records() == []
        relay.restart()  # at a start it takes up existing mails, as its sweep does every five minutes
        bucket.until(lambda: not bucket.spooled(), "the spool to be empty")
        assert (len(ses.mails), len(bucket.stored())) == (1, 1)
        assert len(bucket.messages("out")) == 1

    def test_without_a_table_it_does_not_start(self, start: Callable[..., Relay]) -> None:
        relay = start()
        environment = {**relay.environment()}
        del environment["SMTP_RELAY_RECEIPTS_TABLE"]
        done = subprocess.run(
            relay.command(), cwd=relay.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == (
            f"smtp-relay: {relay.path}: delivery.mode: in-process delivery out of S3 keeps the receipts "
            "of these outputs in a DynamoDB table (name it in SMTP_RELAY_RECEIPTS_TABLE)"
        )
