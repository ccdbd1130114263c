"""`deadletter` on Cloud Storage, beside a running function."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.clouds.gcp import PROJECT, call
from tests.support.clouds.gcp_stack import Stack
from tests.support.mails.dead_letter_drill import Drill, carry_out
from tests.support.servers.relay import ROOT


class GcsDrill(Drill):
    words: Mapping[str, str] = {"archive": "not-yet", "notify": "/topics/alt"}
    prefix = "20"  # of the year

    def __init__(self, stack_for: Callable[..., Stack], folder: Path) -> None:
        self.topic = f"alt-{os.urandom(4).hex()}"
        topic = f"projects/{PROJECT}/topics/{self.topic}"
        flows = {
            "in": [{"type": "gcp", "name": "archive", "storage": {"bucket": "not-yet"}}],
            "alt": [{"type": "gcp", "name": "notify", "pubsub": {"topic": topic}}],
        }
        self.folder = folder
        self.stack = stack_for(flows, settings={"keepCache": True}, notify=False)
        self.count: Counter[str] = Counter()
        self.mended = False

    def command(self, *arguments: str) -> tuple[Sequence[str], Mapping[str, str], Path]:
        command = [sys.executable, "-m", "listener.cli.main", "deadletter", *arguments]
        environment = {**os.environ, **self.stack.environment, "PYTHONPATH": str(ROOT)}
        return [*command, "--config", str(self.stack.config)], environment, self.folder

    def send(self, number: int) -> None:
        assert self.stack.push(self.stack.put(b"Subject: mail %d\r\n\r\nx\r\n" % number)) == 204

    def dead(self) -> int:
        return len(self.stack.dead_keys())

    def mend(self) -> None:
        call("POST", f"{self.stack.gcs.url}/storage/v1/b?project=p", {"name": "not-yet"})
        self.stack.pubsub.subscribe(self.topic, self.stack.pubsub.topic(self.topic))
        self.mended = True

    def notified(self) -> Counter[str]:
        found = self.stack.pubsub.pull(self.topic) if self.mended else []
        self.count.update(message["attributes"]["smtp-relay-id"] for message in found)
        return self.count.copy()

    def unfinished(self) -> int:
        return len(self.stack.spooled())

    def hold(self) -> None:
        """No notification comes by itself here."""

    def resume(self) -> None:
        for key in self.stack.spooled():
            assert self.stack.push(key) == 204


def test_dead_letters_of_a_bucket(stack_for: Callable[..., Stack], tmp_path: Path) -> None:
    carry_out(GcsDrill(stack_for, tmp_path))
