"""`deadletter` on S3, beside a deployed function."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.clouds.aws_stack import Stack
from tests.support.mails.dead_letter_drill import Drill, carry_out
from tests.support.servers.relay import ROOT


class S3Drill(Drill):
    words: Mapping[str, str] = {"archive": "nosuchbucket", "notify": "NonExistentQueue"}
    prefix = "20"  # of the year

    def __init__(self, stack_for: Callable[..., Stack]) -> None:
        flows = {
            "in": [{"type": "aws", "name": "archive", "storage": {"bucket": "not-yet-{bucket}"}}],
            "alt": [{"type": "aws", "name": "notify", "pubsub": {"topic": "{queue:alt}"}}],
        }
        self.stack = stack_for(flows, settings={"keepCache": True}, notify=False)
        self.stack.missing("alt")
        self.count: Counter[str] = Counter()
        self.mended = False

    def command(self, *arguments: str) -> tuple[Sequence[str], Mapping[str, str], Path]:
        command = [sys.executable, "-m", "listener.cli.main", "deadletter", *arguments]
        environment = {**os.environ, **self.stack.environment(), "PYTHONPATH": str(ROOT)}
        return [*command, "--config", str(self.stack.config)], environment, self.stack.folder

    def send(self, number: int) -> None:
        self.stack.notify(self.stack.put(b"Subject: mail %d\r\n\r\nx\r\n" % number, flows=("in", "alt")))

    def dead(self) -> int:
        return len(self.stack.dead_keys())

    def mend(self) -> None:
        self.stack.s3.create_bucket(Bucket=f"not-yet-{self.stack.target}")
        self.stack.make_queue("alt")
        self.mended = True

    def notified(self) -> Counter[str]:
        while self.mended and self.stack.waits("alt")[0]:
            self.count.update(event["id"] for event in self.stack.messages("alt", seconds=2))
        return self.count.copy()

    def unfinished(self) -> int:
        return len(self.stack.spooled())

    def hold(self) -> None:
        """No notification comes by itself here."""

    def resume(self) -> None:
        self.stack.notify(*self.stack.spooled())


def test_dead_letters_of_a_bucket(stack_for: Callable[..., Stack]) -> None:
    carry_out(S3Drill(stack_for))
