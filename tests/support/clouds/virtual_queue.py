"""The queue, Lambda's reading of it, and the sweep's schedule, on a clock that a test advances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from functions.aws.function import LambdaFunction
from functions.aws.spool import notification_body
from functions.bucket.sweep import PERIOD

BATCH: Final = 10
VISIBILITY: Final = 720.0
MAX_RECEIVES: Final = 10


@dataclass
class _Message:
    number: int
    body: str
    visible_at: float
    receives: int = 0


class Context:
    """Lambda's context of a run."""

    aws_request_id = "run"

    def __init__(self, seconds: float = 120.0) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


class VirtualQueue:
    """Replaces SQS for one function; `now` is the time of both."""

    def __init__(self, bucket: str, now: float) -> None:
        self.now = now
        self.dead: list[str] = []
        self.receives = 0
        self._bucket = bucket
        self._messages: list[_Message] = []
        self._next_sweep = now + PERIOD
        self._number = 0
        self._function: LambdaFunction

    def clock(self) -> float:
        return self.now

    def serve(self, function: LambdaFunction) -> None:
        """Let this function read the queue; its calls to SQS come here."""
        self._function = function
        function._notify = self.notify  # type: ignore[assignment]
        function._sqs = self

    def notify(self, keys: Sequence[str]) -> None:
        """Send a notification for each key."""
        for key in keys:
            self._number += 1
            self._messages.append(_Message(self._number, notification_body(self._bucket, key), self.now))

    def change_message_visibility_batch(self, **request: Any) -> None:
        for entry in request["Entries"]:
            message = self._of(entry["ReceiptHandle"])
            message.visible_at = self.now + entry["VisibilityTimeout"]

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        while True:
            due = min([self._next_sweep, *(message.visible_at for message in self._messages)])
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            if self._next_sweep <= self.now:
                self._function.handle({"sweep": True}, Context())
                self._next_sweep += PERIOD
            else:
                self._deliver()

    def _deliver(self) -> None:
        batch = []
        for message in [one for one in self._messages if one.visible_at <= self.now][:BATCH]:
            message.receives += 1
            if message.receives > MAX_RECEIVES:
                self._messages.remove(message)
                self.dead.append(message.body)
                continue
            message.visible_at = self.now + VISIBILITY
            batch.append(message)
        if not batch:
            return
        self.receives += len(batch)
        records = [
            {
                "messageId": str(message.number),
                "receiptHandle": str(message.number),
                "body": message.body,
                "attributes": {"ApproximateReceiveCount": str(message.receives)},
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:q",
                "awsRegion": "us-east-1",
            }
            for message in batch
        ]
        answer = self._function.handle({"Records": records}, Context())
        failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
        self._messages = [one for one in self._messages if one not in batch or str(one.number) in failed]

    def _of(self, handle: str) -> _Message:
        return next(message for message in self._messages if str(message.number) == handle)
