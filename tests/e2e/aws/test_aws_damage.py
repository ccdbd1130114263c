"""Objects of an S3 spool that are damaged or hostile: through the deployed function, and through a
server that delivers out of its bucket itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from functions.delivery.engine import ENVELOPE
from tests.support.clients.wire import submit
from tests.support.clouds.aws_stack import Stack
from tests.support.clouds.ministack import Ministack
from tests.support.mails.damage import DAMAGED, DAMAGES, HOSTILE, flipped, object_of
from tests.support.mails.spooled import MAIL, envelope_of, spool_object
from tests.support.net import HOST, wait_until
from tests.support.servers.endpoint import Asked, Says, endpoint
from tests.support.servers.relay import Relay

Stacks = Callable[..., Stack]

STORE = {"type": "aws", "name": "store", "storage": {"bucket": "{bucket}", "path": "${id}.eml"}}
TELL = {"type": "aws", "name": "tell", "pubsub": {"topic": "{queue:out}"}}
SEND = {"type": "aws", "name": "send", "ses": {"maxSendRate": 100, "identities": ["example.com"]}}


def replace(stack: Stack, key: str, data: bytes) -> None:
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=data)


@pytest.mark.parametrize("how", ["a bit flipped", "the last byte gone", "nothing left"])
def test_a_damaged_mail_reaches_no_output_and_stays(stack_for: Stacks, how: str) -> None:
    stack = stack_for({"in": [STORE, TELL, SEND]}, notify=False)
    content = MAIL + b"x" * 200_000
    envelope = envelope_of(content)
    key, _ = spool_object(envelope, content, stack.prefix)
    damaged = spool_object(envelope, DAMAGES[how](content), stack.prefix)[1]
    replace(stack, key, damaged)
    sends = stack.sends()
    for _ in range(2):
        stack.notify(key)
        stack.until(lambda: len(stack.dead_keys()) == 3, "the dead records")
        stack.until(lambda: stack.waits() == (0, 0), "the event to be acknowledged")
        assert {record["output"]: record["reason"] for record in stack.dead_records()} == {
            "store": DAMAGED,
            "tell": DAMAGED,
            "send": DAMAGED,
        }
        swept = stack.invoke({"sweep": True})
        assert (swept["unfinished"], swept["notified"], swept["dead"]) == (0, 0, 3)
        stack.command("deadletter", "replay", "--all")
    assert stack.invoke({"Records": [stack.message(key)]}) == {"batchItemFailures": []}
    assert stack.read(key) == damaged
    assert stack.stored() == {}
    assert stack.messages("out", seconds=0.3) == []
    assert stack.sends() == sends
    assert stack.messages("dead", seconds=0.3) == []


def test_what_was_stored_before_the_damage_is_not_given_up(stack_for: Stacks) -> None:
    stack = stack_for({"in": [STORE, TELL]}, notify=False)
    stack.missing("out")
    stack.sqs.create_queue(QueueName=f"{stack.name}-elsewhere")
    key = stack.put()
    stack.notify(key)
    stack.until(lambda: bool(stack.dead_keys()), "the queue that is gone to be given up")
    replace(stack, key, flipped(stack.read(key)))
    stack.command("deadletter", "replay", "--all", "--now")
    stack.until(
        lambda: [each["reason"] for each in stack.dead_records()] == [DAMAGED], "the record of the damage"
    )
    assert [each["output"] for each in stack.dead_records()] == ["tell"]
    assert len(stack.stored()) == 1


@pytest.mark.parametrize("name", ["nested lists", "nested objects", "NaN", "no recipient"])
def test_a_hostile_envelope_is_a_dead_record(stack_for: Stacks, name: str) -> None:
    stack = stack_for({"in": [TELL]}, notify=False)
    envelope = envelope_of(age=7_200)
    key, _ = spool_object(envelope, MAIL, stack.prefix)
    replace(stack, key, object_of(HOSTILE[name](envelope), MAIL))
    assert stack.invoke({"Records": [stack.message(key)]}) == {"batchItemFailures": []}
    (record,) = stack.dead_records()
    assert (record["key"], record["code"]) == (ENVELOPE, "5.6.0")
    assert key in stack.spooled()
    assert envelope.id in stack.command("deadletter", "show", envelope.id)


def test_out_of_a_bucket_in_process(
    stack_for: Stacks, new_relay: Callable[..., Relay], aws: Ministack
) -> None:
    """The mail waits for an output that is down when its object is damaged."""
    asked: list[Asked] = []
    with endpoint() as api:
        down = Says(503, b"{}", {"x-amzn-ErrorType": "ServiceUnavailable"})

        def answer(request: Asked) -> Says:
            asked.append(request)
            return down

        api.answer = answer
        client = {"endpoint": api.url.partition("/ask")[0]}
        send: dict[str, Any] = {
            "type": "aws",
            "name": "send",
            "ses": {"maxSendRate": 100},
            "sesClient": client,
        }
        delivery = {"mode": "in-process", "retry": {"first": 100, "max": 200}}
        stack = stack_for({"in": [send]}, settings={"delivery": delivery}, deployed=False, notify=False)
        flow = {"filters": [{"type": "whitelist", "ips": [HOST]}], **stack.raw["flows"]["in"]}
        environment = {**aws.environment, "SMTP_RELAY_RECEIPTS_TABLE": stack.table}
        relay = new_relay({**stack.raw, "flows": {"in": flow}}, env=environment).start()
        assert submit(relay.port, MAIL, "a@example.com", "b@example.com").code == 250
        wait_until(lambda: len(asked) > 2, seconds=20, what="attempts")
        (key,) = stack.spooled()
        damaged = flipped(stack.read(key))
        replace(stack, key, damaged)
        stack.until(lambda: bool(stack.dead_keys()), "the dead record")
        (record,) = stack.dead_records()
        assert record["reason"] == DAMAGED
        tries = len(asked)
        relay.restart()
        assert submit(relay.port, MAIL, "a@example.com", "b@example.com").code == 250
        wait_until(lambda: len(asked) > tries + 1, seconds=20, what="attempts at another mail")
        assert stack.read(key) == damaged
        assert len(stack.dead_records()) == 1
        assert relay.stop() == 0
        assert "Traceback" not in relay.log()
