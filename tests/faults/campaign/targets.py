"""A queue, a topic and a bus on a local AWS, with a proxy before them that fails in all ways."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from functions.message.event.attributes import ID
from tests.faults.campaign.clouds.proxy import Proxy, proxy
from tests.support.clouds.aws_topics import Bus, Topic
from tests.support.clouds.ministack import Ministack

_PATIENCE: Final = 3  # seconds that a client waits for an answer: less than a proxy hangs


class Targets:
    """`copies` is by output: how often each mail's id came out of it. `wrong` are messages that contradict
    themselves."""

    names: Final = ("queue", "topic", "bus")

    def __init__(self, aws: Ministack, before: Proxy, name: str) -> None:
        self.proxy = before
        self.environment = {**aws.environment, "AWS_ENDPOINT_URL": before.url}
        self.copies = {each: Counter[str]() for each in self.names}
        self.wrong: list[str] = []
        self._sqs = aws.client("sqs")
        queue = self._sqs.create_queue(QueueName=f"{name}-published")["QueueUrl"]
        topic, bus = Topic(aws, f"{name}-topic"), Bus(aws, f"{name}-bus")
        self._to = dict(zip(self.names, (queue, topic.arn, bus.arn), strict=True))
        self._from = dict(zip(self.names, (queue, topic.queue, bus.queue), strict=True))

    def outputs(self) -> list[dict[str, Any]]:
        """One output for each target."""
        client = {"endpoint": self.proxy.url, "config": {"read_timeout": _PATIENCE}}
        return [
            {"type": "aws", "name": name, "pubsub": {"topic": topic}, "sqsclient": client}
            for name, topic in self._to.items()
        ]

    def collect(self) -> None:
        """Count the messages since the last call."""
        for name, queue in self._from.items():
            while messages := self._receive(queue):
                for message in messages:
                    event = json.loads(message["Body"])
                    event = event.get("detail", event)
                    self.copies[name][event["id"]] += 1
                    said = message.get("MessageAttributes", {}).get(ID, {}).get("StringValue")
                    if said != (None if name == "bus" else event["id"]):
                        self.wrong.append(f"{name}: the attribute says {said}, the event {event['id']}")

    def _receive(self, queue: str) -> list[Mapping[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=0, MessageAttributeNames=["All"]
        )
        found: list[Mapping[str, Any]] = answer.get("Messages", [])
        handles = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(found)]
        if handles:
            self._sqs.delete_message_batch(QueueUrl=queue, Entries=handles)
        return found


@contextmanager
def local_targets(folder: Path, seed: str) -> Iterator[Targets]:
    """Targets on an AWS of their own, until the block ends."""
    aws = Ministack(folder)
    try:
        aws.start()
        with proxy(aws.port, f"{seed} targets") as before:
            yield Targets(aws, before, "campaign")
    finally:
        aws.stop()
