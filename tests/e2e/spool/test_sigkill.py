"""Killed at random moments under load: every mail that was answered 250 exists, once, whole."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import process
from tests.support.clients.load import Load, settle
from tests.support.net import wait_until
from tests.support.servers.relay import Relay, flow

pytestmark = pytest.mark.slow

Make = Callable[..., Relay]


@pytest.mark.parametrize(
    ("name", "rounds", "config"),
    [
        ("fsync", 12, {}),
        ("no fsync", 8, {"spool": {"url": "file://{folder}/spool", "durability": "none"}}),
        ("two workers", 6, {"workers": 2}),
        ("two outputs", 4, {}),
    ],
)
def test_thirty_kills(new_relay: Make, name: str, rounds: int, config: dict[str, Any]) -> None:
    if name == "two outputs":
        both = flow()
        both["outputs"].append({"type": "file", "path": "{folder}/second", "name": "second"})
        config = {"flows": {"all": both}}
    relay = new_relay(config)
    moments = random.Random(name)
    load = Load()
    for number in range(rounds):
        relay.start()
        with load.senders(relay.port, 6):
            time.sleep(moments.uniform(0.05, 0.9))
            relay.kill()
        if number % 4 == 3:
            _kill_while_starting(relay, moments.uniform(0.3, 1.2))
    relay.start()
    assert len(load.answered) > rounds * 5, "the load was too small to tell anything"
    settle(relay, least=len(load.answered))
    load.audit(relay.files())
    if name == "two outputs":
        load.audit(sorted((relay.folder / "second").glob("*.eml")))
    leftovers = [path.name for path in relay.received.iterdir() if path.name.startswith(".")]
    assert leftovers == []
    assert not [path for path in relay.spool.rglob("*.eml") if path.is_file()], "bodies left in the spool"
    assert relay.stop() == 0
    assert "Traceback" not in relay.log()


def _kill_while_starting(relay: Relay, after: float) -> None:
    """Recovery is killed as well: at a moment between exec and the first connection."""
    started = relay.spawn()
    time.sleep(after)
    relay.kill()
    assert started.poll() is not None


def test_a_worker_that_dies_is_restarted(new_relay: Make) -> None:
    relay = new_relay({"workers": 2}).start()
    wait_until(lambda: len(_workers(relay)) == 2, seconds=10, what="two workers")
    load = Load()
    with load.senders(relay.port, 6):
        for _ in range(4):
            time.sleep(0.5)
            workers = _workers(relay)
            assert workers
            os.kill(workers[0], signal.SIGKILL)
            wait_until(
                lambda gone=workers[0]: len(set(_workers(relay)) - {gone}) == 2,
                seconds=15,
                what="a new worker",
            )  # type: ignore[misc]
        time.sleep(0.5)
    assert relay.alive
    settle(relay, least=len(load.answered))
    load.audit(relay.files())
    assert relay.stop() == 0


def _workers(relay: Relay) -> list[int]:
    """The serving processes: all children but multiprocessing's own helpers."""
    helpers = (b"resource_tracker", b"forkserver")
    found = []
    for pid in process.tree(relay.pid)[1:]:
        command = process.command_line(pid)
        if command and not any(helper in command for helper in helpers):
            found.append(pid)
    return found


def test_sigterm_drains(new_relay: Make) -> None:
    """Mails that are being sent are finished, nothing answered is lost, and the exit status is 0."""
    relay = new_relay().start()
    load = Load()
    for _ in range(3):
        with load.senders(relay.port, 6):
            time.sleep(0.4)
            began = time.monotonic()
            assert relay.stop() == 0
            assert time.monotonic() - began < 15
        relay.start()
    settle(relay, least=len(load.answered))
    load.audit(relay.files())


def test_a_second_server_on_the_same_spool_is_refused(new_relay: Make) -> None:
    first = new_relay().start()
    second = new_relay({"spool": f"file://{first.spool}"})
    with pytest.raises(RuntimeError, match=r"ended at start with 2"):
        second.start()
    assert "Traceback" not in second.log()
    assert first.alive
