"""Notifications that come twice, at once, late, in disorder, or that are foreign."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.support.clouds.aws_stack import Stack
from tests.support.servers.endpoint import Says, endpoint

Stacks = Callable[..., Stack]

STORE_AND_TELL = {
    "type": "aws",
    "storage": {"bucket": "{bucket}", "path": "${id}.eml"},
    "pubsub": {"topic": "{queue:out}"},
}


def test_duplicated_concurrent_and_reordered(stack_for: Stacks) -> None:
    stack = stack_for({"in": [STORE_AND_TELL]}, notify=False)
    keys = [stack.put() for _ in range(6)]
    stack.notify(*reversed(keys), *keys, *keys)
    stack.settled()
    stack.notify(*keys)
    stack.settled()
    ids = sorted(key.rpartition("/")[2].removesuffix(".eml") for key in keys)
    assert sorted(event["id"] for event in stack.messages("out", least=6)) == ids
    assert sorted(stack.stored()) == [f"{mail_id}.eml" for mail_id in ids]


def test_invocations_at_the_same_moment(stack_for: Stacks) -> None:
    stack = stack_for({"in": [STORE_AND_TELL]}, notify=False)
    key = stack.put()
    event = {"Records": [stack.message(key)]}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: stack.invoke(event), range(4)))
    for _ in range(3):
        if stack.spooled():
            stack.invoke(event)
    assert not stack.spooled()
    assert len(stack.messages("out")) == 1
    assert len(stack.stored()) == 1


def test_foreign_events_are_acknowledged(stack_for: Stacks) -> None:
    stack = stack_for({"in": [STORE_AND_TELL]}, notify=False)
    gone = "relay/spool/b/2026/01/01/00/01a2037e-0ecf-7600-b2c1-0c663d57cd8b.eml"
    strange = stack.put(flows=("elsewhere",), age=7200)
    broken = stack.put(age=7200)
    stack.s3.put_object(Bucket=stack.bucket, Key=broken, Body=b"Subject: not ours\r\n\r\n")
    bodies = [
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": stack.bucket}),
        "not json",
        json.dumps({"Records": [{"s3": {}}]}),
    ]
    for body in bodies:
        stack.sqs.send_message(QueueUrl=stack.queue, MessageBody=body)
    stack.notify(gone, "relay/spool/other.txt", "elsewhere/x", strange, broken)
    stack.notify(gone, bucket="another-bucket")
    stack.until(lambda: stack.waits() == (0, 0), "all to be acknowledged")
    records = {record["key"]: record for record in stack.dead_records()}
    assert len(records) == 2
    assert "does not start with an envelope" in records["envelope"]["reason"]
    assert any("no flow 'elsewhere'" in record["reason"] for record in records.values())
    assert stack.messages("dead", least=1, seconds=0.2) == []
    assert stack.invoke({"hello": "world"}) == {"batchItemFailures": []}


def test_events_through_a_topic_and_an_event_bus(stack_for: Stacks) -> None:
    stack = stack_for({"in": [STORE_AND_TELL]}, notify=False)
    keys = [stack.put(), stack.put()]
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": stack.bucket}, "object": {"key": keys[0]}},
    }
    topic = {"Type": "Notification", "Message": json.dumps({"Records": [record]})}
    bus = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": stack.bucket}, "object": {"key": keys[1], "size": 9}},
    }
    for body in (topic, bus):
        stack.sqs.send_message(QueueUrl=stack.queue, MessageBody=json.dumps(body))
    stack.settled()
    ids = sorted(key.rpartition("/")[2].removesuffix(".eml") for key in keys)
    assert sorted(event["id"] for event in stack.messages("out", least=2)) == ids


def test_renaming_the_function_repeats_nothing(stack_for: Stacks) -> None:
    stack = stack_for(
        {"in": [STORE_AND_TELL, {"type": "aws", "pubsub": {"topic": "{queue:late}"}}]}, notify=False
    )
    stack.missing("late")
    key = stack.put()
    stack.notify(key)
    stack.until(lambda: bool(stack.dead_keys()), "the second output to be given up")
    assert len(stack.messages("out")) == 1
    stack.undeploy()
    stack.function = stack.deploy(f"{stack.name}-renamed")
    stack.queues["late"] = stack.sqs.create_queue(QueueName=f"{stack.name}-late")["QueueUrl"]
    stack.command("deadletter", "replay", "--all", "--now")
    stack.settled()
    assert len(stack.messages("late")) == 1
    assert stack.messages("out", seconds=0.2) == []
    assert key not in stack.spooled()


def test_a_run_killed_half_way_is_finished_later(stack_for: Stacks) -> None:
    """The process dies while the second output waits for its answer; the first output is done by then."""
    with endpoint() as api:
        asked = threading.Event()
        api.answer = lambda request: Says(hang=asked)
        topic = api.url.partition("/ask")[0] + "/0/slow"
        slow = {"type": "aws", "name": "slow", "pubsub": {"topic": topic}}
        stack = stack_for({"in": [STORE_AND_TELL, slow]}, notify=False)
        key = stack.put()
        run = stack.run_apart({"Records": [stack.message(key)]})
        stack.until(lambda: bool(api.asked), "the slow output to be asked")
        run.kill()
        run.wait()
        asked.set()
        api.answer = Says(body=b'{"MessageId":"m"}')
        again = {"Records": [stack.message(key, receives=2)]}
        (failure,) = stack.invoke(again)["batchItemFailures"]
        assert failure == {"itemIdentifier": key}, "the claim stands while the run could live"
        stack.expire_claims()
        assert stack.invoke(again) == {"batchItemFailures": []}
        assert len(api.asked) == 2
    assert len(stack.messages("out")) == 1
    assert len(stack.stored()) == 1
    assert not stack.spooled()


def test_notifications_off_the_sweep_delivers_every_mail(stack_for: Stacks) -> None:
    stack = stack_for({"in": [STORE_AND_TELL]}, notify=False)
    for _ in range(12):
        stack.put(age=16 * 60)
    young = stack.put()
    found = stack.invoke({"sweep": True})
    assert (found["unfinished"], found["notified"]) == (13, 12)
    stack.until(lambda: stack.spooled() == [young], "the old ones to be delivered")
    assert len(stack.messages("out", least=12)) == 12
