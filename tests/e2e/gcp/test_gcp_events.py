"""Pushes that come twice, at once, late, in disorder, that are foreign, or whose run crashed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.support.clouds.gcp_stack import Stack
from tests.support.net import HOST, free_port

Stacks = Callable[..., Stack]

STORE_AND_TELL = {
    "type": "gcp",
    "storage": {"bucket": "{bucket}", "path": "${id}.eml"},
    "pubsub": {"topic": "{topic:out}"},
}


def id_of(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".eml")


def test_duplicated_concurrent_and_reordered(stack_for: Stacks) -> None:
    stack = stack_for({"in": [STORE_AND_TELL]}, notify=False)
    keys = [stack.put() for _ in range(6)]
    assert [stack.push(key) for key in reversed(keys[:3])] == [204] * 3
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(stack.push, [key for key in keys for _ in range(4)]))
    assert set(first) <= {204, 503}
    for key in keys:
        # A run that was to come back finds no work.
        assert stack.push(key, attempt=2) == 204
    assert not stack.spooled()
    messages = stack.messages("out", least=6)
    assert sorted(json.loads(each["data"])["id"] for each in messages) == sorted(map(id_of, keys))
    assert sorted(stack.stored()) == sorted(f"{id_of(key)}.eml" for key in keys)


def test_foreign_events_are_acknowledged(stack_for: Stacks) -> None:
    stack = stack_for({"in": [STORE_AND_TELL]}, notify=False)
    gone = "relay/spool/b/2026/01/01/00/01a2037e-0ecf-7600-b2c1-0c663d57cd8b.eml"
    strange = stack.put(flows=("elsewhere",), age=7200)
    broken = stack.put(age=7200)
    stack.gcs.write(stack.bucket, broken, b"Subject: not ours\r\n\r\n")
    newer = stack.put(age=7200)
    stack.gcs.write(stack.bucket, newer, b"X-SMTP-Relay-Envelope: eyJzY2hlbWEiOiA5OX0=\r\n\r\nhi\r\n")
    young = stack.put(flows=("soon",))
    bodies = [
        b"",
        b"not json",
        [1],
        {},
        {"message": None},
        {"message": {"data": "aGVsbG8="}},
        {"message": {"attributes": {"eventType": "OBJECT_FINALIZE"}}},
        {"message": {"attributes": {"eventType": 1, "bucketId": [], "objectId": {}}}},
        {"hello": "world"},
    ]
    assert [stack.post(body)[0] for body in bodies] == [204] * len(bodies)
    keys = [gone, "relay/spool/other.txt", "elsewhere/x", strange, broken, newer]
    assert [stack.push(key) for key in keys] == [204] * len(keys)
    assert stack.push(gone, bucket="another-bucket") == 204
    assert stack.push(strange, eventType="OBJECT_DELETE") == 204
    assert stack.push(young) == 503  # a deployment may be under way
    reasons = sorted(record["reason"] for record in stack.dead_records())
    assert len(reasons) == 3
    assert any("no flow 'elsewhere'" in reason for reason in reasons)
    assert stack.stored() == {}
    assert "Traceback" not in stack.function.log()


def test_a_run_that_was_killed_is_finished_by_another(stack_for: Stacks) -> None:
    """Killed after its claim, when it is unknown if the message was published."""
    with socket.create_server((HOST, 0)) as nobody:
        silent = f"{HOST}:{nobody.getsockname()[1]}"
        stack = stack_for(
            {"in": [STORE_AND_TELL]}, notify=False, environment={"PUBSUB_EMULATOR_HOST": silent}
        )
        key = stack.put()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(stack.push, key)
            stack.until(lambda: bool(stack.keys("receipts/")), "the claim")
            stack.function.stop()
            assert answer.exception() is not None
    (claim,) = stack.keys("receipts/")
    assert claim.endswith(".claim")

    stack.function.restart(PUBSUB_EMULATOR_HOST=stack.pubsub.address)
    assert stack.push(key, attempt=2) == 503  # as far as is known, the other run still works on it
    assert stack.messages("out", seconds=0) == []
    held = json.loads(stack.gcs.read(stack.bucket, claim))
    stack.gcs.write(stack.bucket, claim, json.dumps(held | {"deadline": 1.0}).encode())
    with ThreadPoolExecutor(4) as pool:
        assert 204 in list(pool.map(stack.push, [key] * 4))
    stack.push(key, attempt=3)
    assert not stack.spooled()
    assert len(stack.messages("out")) == 1
    assert len(stack.stored()) == 1
    assert any(entry["message"] == "in doubt" for entry in stack.function.entries())


def test_a_run_that_crashes_again_and_again_ends_in_the_dead_letter_topic(stack_for: Stacks) -> None:
    stack = stack_for({"in": [STORE_AND_TELL]}, longest="0.2s", attempts=5)
    stack.function.restart(SMTP_RELAY_TIMEOUT="no number")
    stack.put()
    found: list[object] = []
    stack.until(lambda: bool(found) or bool(found.extend(stack.dead_doorbells()) or found), "it")
    assert len(stack.spooled()) == 1  # the mail waits for the sweep
    stack.function.restart(SMTP_RELAY_TIMEOUT="300")
    assert stack.push(stack.spooled()[0]) == 204
    assert not stack.spooled()


def test_temporary_failures_come_back_and_are_then_left_to_the_sweep(stack_for: Stacks) -> None:
    stack = stack_for(
        {"in": [STORE_AND_TELL]},
        notify=False,
        environment={"PUBSUB_EMULATOR_HOST": f"{HOST}:{free_port()}"},
    )
    key = stack.put()
    assert [stack.push(key, attempt=number) for number in (1, 4, 5, 6)] == [503, 503, 204, 204]
    assert len(stack.stored()) == 1
    assert stack.dead_records() == []
    assert stack.keys("receipts/") == []  # an effect that did not happen leaves no claim
    stack.function.restart(PUBSUB_EMULATOR_HOST=stack.pubsub.address)
    assert stack.push(key) == 204
    assert len(stack.messages("out")) == 1
    assert len(stack.stored()) == 1
