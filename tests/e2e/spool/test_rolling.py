"""A spool in a folder, served by the version before and by this one in turn: an upgrade and a rollback lose
no mail and repeat none."""

from __future__ import annotations

import os
import smtplib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest

from tests.support.earlier import THIS, Version, before
from tests.support.net import HOST, PATIENCE, wait_until
from tests.support.servers.relay import Relay, flow
from tests.support.servers.smarthost import Heard, Smarthost, smarthost

BEFORE: Final = before()

EACH: Final = 8
"""Mails that each server takes."""

LARGE: Final = "x" * 72 + "\r\n"


def send(relay: Relay, number: int) -> None:
    """Mail NUMBER; every fourth one is a file of the spool."""
    text = f"Subject: mail {number}\r\n\r\nhello\r\n" + LARGE * (2_000 if number % 4 == 0 else 1)
    with smtplib.SMTP(HOST, relay.port, timeout=30) as client:
        client.sendmail("ada@example.com", ["bob@example.org"], text)


def subject(content: bytes) -> str:
    (line,) = [one for one in content.split(b"\r\n") if one.startswith(b"Subject: ")]
    return line.removeprefix(b"Subject: ").decode()


def command(relay: Relay, *arguments: str) -> str:
    """`smtp-relay` of the version that serves the folder."""
    done = subprocess.run(
        [sys.executable, "-m", "listener.cli.main", *arguments, "--config", str(relay.path)],
        cwd=relay.folder,
        env={**os.environ, "PYTHONPATH": str(relay.code)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for_dead_letters(relay: Relay, dead: int) -> None:
    wait_until(
        lambda: relay.log().count("given up") >= dead, seconds=PATIENCE, what="a dead letter of each mail"
    )


def got(host: Smarthost) -> Counter[str]:
    return Counter(subject(taken.content) for taken in host.taken)


@pytest.mark.parametrize(
    "versions", [(BEFORE, THIS, BEFORE), (THIS, BEFORE, THIS)], ids=["upgrade", "rollback"]
)
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_versions_in_turn_lose_and_repeat_nothing(
    new_relay: Callable[..., Relay], versions: tuple[Version, ...], killed: bool
) -> None:
    """One server delivers later, one refuses for good; both take everything when all have served."""
    healed = threading.Event()

    def later(heard: Heard) -> str | None:
        return None if healed.is_set() or heard.verb != "MAIL" else "451 4.3.2 later"

    def never(heard: Heard) -> str | None:
        return None if healed.is_set() or heard.verb != "RCPT" else "550 5.1.1 nobody"

    with smarthost(later) as first, smarthost(never) as second:
        outputs = [
            {"type": "file", "path": "{received}"},
            {"type": "mailer", "name": "later", "nodemailer": {"host": HOST, "port": first.port}},
            {"type": "mailer", "name": "never", "nodemailer": {"host": HOST, "port": second.port}},
        ]
        relay = new_relay(
            {
                "flows": {"all": {**flow(), "outputs": outputs}},
                "delivery": {"retry": {"first": 500, "max": 500}},
            }
        )
        for turn, version in enumerate(versions):
            relay.code = version.root
            relay.start()
            for number in range(turn * EACH, (turn + 1) * EACH):
                send(relay, number)
            # All of them are partly delivered: filed, waiting for one server, refused by the other.
            wait_for_dead_letters(relay, (turn + 1) * EACH)
            if killed:
                relay.kill()
            else:
                assert relay.stop() == 0
        number = EACH * len(versions)
        expected = Counter(f"mail {one}" for one in range(number))
        assert not first.taken
        assert not second.taken
        healed.set()
        relay.start()
        command(relay, "deadletter", "replay", "--all", "--now")
        wait_until(
            lambda: len(first.taken) >= number and len(second.taken) >= number, seconds=PATIENCE, what="all"
        )
        assert relay.stop() == 0
        assert got(first) == got(second) == expected
        assert Counter(subject(content) for content in relay.mails()) == expected
