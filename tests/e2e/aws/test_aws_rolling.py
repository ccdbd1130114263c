"""Listener and function of the version before and of this one, on one spool, in both directions: mail is
accepted all the time, and each output gets each mail once."""

from __future__ import annotations

import re
import smtplib
from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest

from tests.support.clouds.aws_stack import Stack
from tests.support.earlier import THIS, Version, before
from tests.support.net import HOST
from tests.support.servers.relay import Relay
from tests.support.servers.smarthost import Smarthost, refusing, smarthost

OUTPUTS: Final = [
    {"type": "aws", "name": "all", "storage": {"bucket": "{bucket}"}, "pubsub": {"topic": "{queue:out}"}}
]
LATER: Final = refusing(later="451 4.3.0 later", never="550 5.7.1 never")
"""The smarthost refuses mails to `later@` for now, and mails to `never@`."""

TIMES: Final = {"delivery": {"retry": {"first": 2000, "max": 2000}}}


class Site:
    """A spool with the halves of one version; each half can become another's."""

    def __init__(
        self, stack: Stack, listener_for: Callable[..., Relay], host: Smarthost, version: Version
    ) -> None:
        self.stack = stack
        self.host = host
        self.sent: list[str] = []
        self._listener_for = listener_for
        self._events: Counter[str] = Counter()
        self.listener = listener_for(stack, version=version)

    def send(self, *recipients: str) -> None:
        """One mail to each of these recipients, which the listener answers 250."""
        with smtplib.SMTP(HOST, self.listener.port, timeout=30) as client:
            for recipient in recipients:
                name = f"{recipient}-{len(self.sent)}"
                text = f"Subject: {name}\r\n\r\nhello\r\n"
                client.sendmail("ada@example.com", [f"{recipient}@example.com"], text)
                self.sent.append(name)

    def replace_function(self, version: Version) -> None:
        """Runs of the old code have ended or were killed between two outputs; mail comes meanwhile."""
        self.stack.undeploy()
        self.stack.expire_claims()
        self.send("now", "later", "never")
        self.stack.version = version
        self.stack.deploy(self.stack.function)

    def replace_listener(self, version: Version) -> None:
        """The new one takes mail before the old one ends, as tasks of a service are replaced."""
        old = self.listener
        self.listener = self._listener_for(self.stack, version=version)
        self.send("now", "later", "never")
        assert old.stop() == 0

    def rest(self) -> None:
        """Wait until each mail is delivered, given up or tried again later by the outputs that work."""
        done = [name for name in self.sent if name.startswith("now")]
        dead = [name for name in self.sent if name.startswith("never")]
        self.stack.until(lambda: len(self.stack.spooled()) == len(self.sent) - len(done), "finished mails")
        self.stack.until(lambda: len(self.stack.dead_records()) == len(dead), "dead letters")
        self.stack.until(lambda: self._told() >= len(self.sent), "the events of all mails")

    def effects(self) -> dict[str, Counter[str]]:
        """How often each output took effect, by the mail's subject."""
        self._told()
        return {
            "stored": Counter(map(subject, self.stack.stored().values())),
            "told": self._events,
            "next": Counter(subject(taken.content) for taken in self.host.taken),
        }

    def _told(self) -> int:
        """The number of events until now."""
        events = self.stack.messages("out", least=0)
        self._events.update(event["data"]["email"]["subject"] for event in events)
        return self._events.total()


def subject(content: bytes) -> str:
    found = re.search(rb"^Subject: (\S+)\r$", content, re.MULTILINE)
    assert found is not None
    return found[1].decode()


@pytest.mark.parametrize(
    ("first", "second"), [(before(), THIS), (THIS, before())], ids=["upgrade", "rollback"]
)
def test_a_roll_in_the_middle_of_the_mail_loses_and_repeats_nothing(
    stack_for: Callable[..., Stack],
    listener_for: Callable[..., Relay],
    first: Version,
    second: Version,
) -> None:
    """Old listener and new function meet in the upgrade, new listener and old function in the rollback."""
    with smarthost(LATER) as host:
        mailer = {"type": "mailer", "name": "next", "nodemailer": {"host": HOST, "port": host.port}}
        # A run that is killed with its function leaves its notification hidden for so long.
        stack = stack_for({"in": [*OUTPUTS, mailer]}, settings=TIMES, visibility=20, version=first)
        site = Site(stack, listener_for, host, first)
        site.send("now", "now", "later", "later", "never", "never")
        site.rest()
        assert [name for name in site.sent if name in site.effects()["next"]] == site.sent[:2]
        for replace in (site.replace_function, site.replace_listener):
            replace(second)
            site.send("now", "later", "never")
            site.rest()
        # The servers take all mail again: what waits goes by itself, what was given up is replayed.
        host.script = refusing()
        stack.command("deadletter", "replay", "--all", "--now")
        stack.until(lambda: not stack.spooled(), "the spool to be empty")
        assert not stack.dead_records()
        once = Counter(site.sent)
        assert site.effects() == {"stored": once, "told": once, "next": once}
        assert site.listener.stop() == 0
