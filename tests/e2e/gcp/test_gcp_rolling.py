"""From one version to another with mail in the spool, and back: each half is replaced on its own."""

from __future__ import annotations

import json
import os
import re
import smtplib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest

from tests.support import earlier
from tests.support.clouds.gcp_stack import Stack
from tests.support.earlier import Version
from tests.support.net import HOST
from tests.support.servers.relay import Relay
from tests.support.servers.smarthost import Smarthost, refusing, smarthost

SOURCE: Final = "import sys; from pathlib import Path; from infra.bundle.gcp import source; "
OUTPUTS: Final = [
    {"type": "gcp", "name": "archive", "storage": {"bucket": "{bucket}", "path": "mail/${id}.eml"}},
    {"type": "gcp", "name": "tell", "pubsub": {"topic": "{topic:out}"}},
]
LATER: Final = refusing(later="451 4.3.0 later", never="550 5.7.1 never")
"""The smarthost refuses mails to `later@` for now, and mails to `never@`."""


class Site:
    """A spool with the halves of one version; each half can become another's."""

    def __init__(
        self, stack: Stack, listener_for: Callable[..., Relay], host: Smarthost, version: Version
    ) -> None:
        self.stack = stack
        self.host = host
        self._listener_for = listener_for
        self._events: Counter[str] = Counter()
        self.replace_function(version)
        self.listener = listener_for(stack, code=version.root)

    def replace_function(self, version: Version) -> None:
        """Deploy the function's zip as this version bundles it."""
        folder = self.stack.config.parent / f"zip-{version.name}"
        archive = folder / "function.zip"
        folder.mkdir(exist_ok=True)
        self._python(
            version, "-c", f"{SOURCE}source(Path(sys.argv[1]), Path(sys.argv[2]))", self.stack.config, archive
        )
        self.stack.function.stop()
        self.stack.function.unpack(archive)
        self.stack.function.start()

    def replace_listener(self, version: Version) -> None:
        """The new one starts, then the old one drains, as machines of a group are replaced."""
        old = self.listener
        self.listener = self._listener_for(self.stack, code=version.root)
        assert old.stop() == 0

    def send(self, *names: str, to: str = "now") -> None:
        with smtplib.SMTP(HOST, self.listener.port) as client:
            for name in names:
                client.sendmail("ada@example.com", [f"{to}@example.com"], f"Subject: {name}\r\n\r\nhi\r\n")

    def deadletter(self, version: Version, *arguments: str) -> str:
        """The output of `smtp-relay deadletter` of a version."""
        return self._python(
            version, "-m", "listener.cli.main", "deadletter", *arguments, "--config", self.stack.config
        )

    def effects(self) -> dict[str, Counter[str]]:
        """How often each output took effect, by the mail's subject."""
        for message in self.stack.pubsub.pull(self.stack.topics["out"]):
            self._events[json.loads(message["data"])["data"]["email"]["subject"]] += 1
        return {
            "archive": Counter(map(subject, self.stack.stored().values())),
            "tell": self._events,
            "next": Counter(subject(mail.content) for mail in self.host.taken),
        }

    def _python(self, version: Version, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.stack.config.parent,
            env={**os.environ, **self.stack.environment, "PYTHONPATH": str(version.root)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def subject(mail: bytes) -> str:
    found = re.search(rb"^Subject: (\S+)\r$", mail, re.MULTILINE)
    assert found is not None
    return found[1].decode()


@pytest.mark.parametrize("half", ["function", "listener"], ids=lambda half: f"{half}-first")
@pytest.mark.parametrize("way", ["upgrade", "rollback"])
def test_mail_in_the_spool_survives_the_change_of_versions(
    stack_for: Callable[..., Stack], listener_for: Callable[..., Relay], way: str, half: str
) -> None:
    old, new = earlier.before(), earlier.THIS
    first, second = (old, new) if way == "upgrade" else (new, old)
    with smarthost(LATER) as host:
        mailer = {"type": "mailer", "name": "next", "nodemailer": {"host": HOST, "port": host.port}}
        stack = stack_for({"in": [*OUTPUTS, mailer]})
        site = Site(stack, listener_for, host, first)

        # What a deployment finds: finished, unfinished, dead, and not yet looked at.
        site.send("done-1", "done-2")
        site.send("later-1", "later-2", to="later")
        site.send("never-1", "never-2", to="never")
        stack.until(lambda: len(host.taken) == 2, "two mails to be delivered")
        stack.until(lambda: sum(map(len, map(dict, site.effects().values()))) == 14, "all other outputs")
        stack.until(lambda: len(stack.dead_keys()) == 2, "two dead letters")
        stack.function.stop()
        site.send("waiting-1", "waiting-2")
        assert len(stack.spooled()) >= 6

        # One half is replaced, while the other is the version before's.
        if half == "function":
            site.replace_function(second)
        else:
            stack.function.start()
            site.replace_listener(second)
        host.script = refusing()
        site.send("mixed-1", "mixed-2")
        if half == "function":
            site.replace_listener(second)
        else:
            site.replace_function(second)
        site.send("new-1", "new-2")

        # A mail that was given up is in the spool, too, until it is replayed.
        assert {record["id"] for record in stack.dead_records()} <= {
            key.rpartition("/")[2].removesuffix(".eml") for key in stack.spooled()
        }
        site.deadletter(second, "replay", "--flow", "in", "--now")
        stack.until(lambda: not stack.dead_keys(), "no dead letters")
        for key in stack.spooled():
            stack.push(key)
        stack.settled()
        names = ("done", "later", "never", "waiting", "mixed", "new")
        once = Counter(f"{name}-{number}" for name in names for number in (1, 2))
        stack.until(lambda: site.effects()["tell"].total() >= once.total(), "all events")
        assert site.effects() == {"archive": once, "tell": once, "next": once}
        assert stack.sweep()["unfinished"] == 0
        assert stack.dead_records() == []
        assert site.listener.stop() == 0
