"""`retention` of a running server: workers, reloads, SIGKILL, and the files of users in its folder."""

from __future__ import annotations

import random
import signal
import smtplib
import time
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.load import Load
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]


def limited(**retention: int | str) -> dict[str, Any]:
    """One flow whose output keeps these limits."""
    one = flow()
    (output,) = one["outputs"]
    output["retention"] = retention
    return {"flows": {"all": one}}


def send(relay: Relay, *subjects: str, size: int = 0) -> None:
    for subject in subjects:
        with smtplib.SMTP(HOST, relay.port, timeout=30) as client:
            body = "\r\n".join(["x" * 70] * (size // 72))
            client.sendmail("a@client.example", "b@server.example", f"Subject: {subject}\r\n\r\n{body}")


def subjects(relay: Relay) -> list[str]:
    return sorted(str(message_from_bytes(mail)["Subject"]) for mail in relay.mails())


def read_again(relay: Relay) -> None:
    """SIGHUP, with the relay's present configuration in its file."""
    relay.command()
    assert relay.process is not None
    before = relay.log().count("configuration read again")
    relay.process.send_signal(signal.SIGHUP)
    wait_until(lambda: relay.log().count("configuration read again") > before, seconds=30, what="the reload")


def settled(relay: Relay, *names: str) -> None:
    """Wait until the folder has these mails, and a moment longer: nothing else goes."""
    wait_until(lambda: subjects(relay) == sorted(names), seconds=30, what=f"the mails {names}")
    time.sleep(0.5)
    assert subjects(relay) == sorted(names)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_newest_mails_stay_and_the_files_of_users_too(new_relay: Make, workers: int) -> None:
    relay = new_relay({**limited(count=3), "workers": workers}).start()
    send(relay, *"abcdefgh")
    wait_until(lambda: len(relay.files()) == 3, seconds=30, what="three mails")
    (relay.received / "mine.txt").write_text("a user's")
    (relay.received / "link").symlink_to(relay.folder)
    send(relay, *"ijkl")
    wait_until(lambda: len(relay.files()) == 5, seconds=30, what="three mails, a file and a link")
    assert relay.restart().stop() == 0
    assert (relay.received / "mine.txt").read_text() == "a user's"
    assert relay.folder.is_dir()
    assert "Traceback" not in relay.log()


def test_bytes_are_limited(new_relay: Make) -> None:
    relay = new_relay(limited(bytes=100_000)).start()
    send(relay, *"abcde", size=40_000)
    settled(relay, "d", "e")
    assert sum(path.stat().st_size for path in relay.files()) <= 100_000


def test_old_mails_go(new_relay: Make) -> None:
    relay = new_relay(limited(age="2s")).start()
    send(relay, "a")
    assert subjects(relay) == ["a"]
    wait_until(lambda: subjects(relay) == [], seconds=30, what="the mail to go")


def test_a_reload_changes_the_limit(new_relay: Make) -> None:
    relay = new_relay({}).start()
    send(relay, *"abc")
    settled(relay, "a", "b", "c")
    relay.config |= limited(count=2)
    read_again(relay)
    send(relay, *"defg")
    settled(relay, "a", "b", "c", "f", "g")
    relay.config |= limited(count=1)
    read_again(relay)
    settled(relay, "a", "b", "c", "g")


def test_a_folder_swapped_for_a_link_is_left_alone(new_relay: Make) -> None:
    relay = new_relay(limited(count=2)).start()
    send(relay, *"ab")
    settled(relay, "a", "b")
    elsewhere = relay.folder / "elsewhere"
    relay.received.rename(elsewhere)
    relay.received.symlink_to(elsewhere)
    for path in elsewhere.iterdir():
        path.write_bytes(b"Subject: a user's\r\n\r\n")
    send(relay, *"cdef")
    wait_until(lambda: "f" in subjects(relay), seconds=30, what="the last mail")
    time.sleep(1.5)
    assert subjects(relay).count("a user's") == 2


@pytest.mark.slow
@pytest.mark.parametrize("config", [{}, {"workers": 2}], ids=["one worker", "two workers"])
def test_killed_at_any_moment_it_removes_its_own_files_only(new_relay: Make, config: dict[str, Any]) -> None:
    relay = new_relay({**limited(count=20), **config})
    relay.received.mkdir()
    users: dict[Path, bytes] = {}
    moments = random.Random("retention")
    load = Load()
    for number in range(8):
        relay.start()
        with load.senders(relay.port, 4):
            time.sleep(moments.uniform(0.2, 0.8))
            for path in relay.files()[:2]:
                # A user keeps a mail under its name, in a file of his own.
                if path not in users:
                    other = relay.folder / f"user-{number}"
                    other.write_bytes(b"a user's")
                    other.replace(path)
                    users[path] = b"a user's"
            relay.kill()
    relay.start()
    assert len(load.answered) > 100, "the load was too small to tell anything"
    wait_until(lambda: len(relay.files()) <= 20 + len(users), seconds=60, what="twenty mails")
    send(relay, "last")
    wait_until(lambda: "last" in subjects(relay), seconds=30, what="the last mail")
    assert {path: path.read_bytes() for path in users} == users
    assert relay.stop() == 0
    assert "Traceback" not in relay.log()
