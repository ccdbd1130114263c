"""Objects of a Cloud Storage spool that are damaged or hostile, through the deployed function."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from functions.delivery.engine import ENVELOPE
from tests.support.clouds.gcp_stack import PREFIX, Stack
from tests.support.mails.damage import DAMAGED, DAMAGES, HOSTILE, flipped, object_of
from tests.support.mails.spooled import MAIL, envelope_of, spool_object

Stacks = Callable[..., Stack]

STORE = {"type": "gcp", "name": "store", "storage": {"bucket": "{bucket}", "path": "${id}.eml"}}
TELL = {"type": "gcp", "name": "tell", "pubsub": {"topic": "{topic:out}"}}


@pytest.mark.parametrize("how", ["a bit flipped", "the last byte gone", "nothing left"])
def test_a_damaged_mail_reaches_no_output_and_stays(stack_for: Stacks, how: str) -> None:
    stack = stack_for({"in": [STORE, TELL]}, notify=False)
    content = MAIL + b"x" * 200_000
    envelope = envelope_of(content)
    key, damaged = spool_object(envelope, DAMAGES[how](content), f"{PREFIX}/")
    stack.gcs.write(stack.bucket, key, damaged)
    for _ in range(2):
        assert stack.push(key) == 204
        assert {record["output"]: record["reason"] for record in stack.dead_records()} == {
            "store": DAMAGED,
            "tell": DAMAGED,
        }
        found = stack.sweep()
        assert (found["unfinished"], found["notified"], found["dead"]) == (0, 0, 2)
    assert stack.gcs.read(stack.bucket, key) == damaged
    assert stack.stored() == {}
    assert stack.messages("out", seconds=0.3) == []
    assert stack.keys("receipts/") == []
    assert "Traceback" not in stack.function.log()


def test_what_took_effect_before_the_damage_is_not_given_up(stack_for: Stacks) -> None:
    missing = {"type": "gcp", "name": "archive", "storage": {"bucket": "not-there"}}
    stack = stack_for({"in": [STORE, TELL, missing]}, notify=False)
    key = stack.put()
    assert stack.push(key) == 204
    assert [each["output"] for each in stack.dead_records()] == ["archive"]
    stack.gcs.write(stack.bucket, key, flipped(stack.gcs.read(stack.bucket, key)))
    for name in stack.keys("dead/"):
        if name.endswith(".json"):
            stack.gcs.delete(stack.bucket, name)
    assert stack.push(key) == 204
    assert [(each["output"], each["reason"]) for each in stack.dead_records()] == [("archive", DAMAGED)]
    assert len(stack.stored()) == 1
    assert len(stack.messages("out", seconds=5)) == 1


@pytest.mark.parametrize("name", ["nested lists", "nested objects", "NaN", "no recipient"])
def test_a_hostile_envelope_is_a_dead_record(stack_for: Stacks, name: str) -> None:
    stack = stack_for({"in": [TELL]}, notify=False)
    envelope = envelope_of(age=7_200)
    key, _ = spool_object(envelope, MAIL, f"{PREFIX}/")
    stack.gcs.write(stack.bucket, key, object_of(HOSTILE[name](envelope), MAIL))
    assert stack.push(key) == 204
    (record,) = stack.dead_records()
    assert (record["key"], record["code"]) == (ENVELOPE, "5.6.0")
    assert stack.spooled() == [key]
    assert "Traceback" not in stack.function.log()
