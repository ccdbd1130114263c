"""Faults for a busy relay: each one is made, then repaired, and leaves a relay that runs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from typing import Final

from tests.faults.campaign import spoiling
from tests.faults.campaign.disk_faults import DISK_BLOWS, NEED_A_THIN_DISK
from tests.faults.campaign.relay_under_test import Plan, RelayUnderTest
from tests.support.net import answers, wait_until

Blow = Callable[[RelayUnderTest, random.Random], str]
"""Makes a fault and repairs it; returns a description for the log."""

_SHORTEST: Final = 0.05


def calm(relay: RelayUnderTest, moments: random.Random) -> str:
    """No fault of its own: only the failing services."""
    time.sleep(moments.uniform(0.2, 0.6))
    return "calm"


def kill(relay: RelayUnderTest, moments: random.Random) -> str:
    """SIGKILL to all of it, and a restart."""
    time.sleep(moments.uniform(_SHORTEST, 0.6))
    relay.relay.kill()
    relay.relay.start()
    return "SIGKILL"


def kill_while_starting(relay: RelayUnderTest, moments: random.Random) -> str:
    """SIGKILL, and again while it takes up the spool."""
    relay.relay.kill()
    relay.relay.spawn()
    after = moments.uniform(0.3, 1.0)
    time.sleep(after)
    relay.relay.kill()
    relay.relay.start()
    return f"SIGKILL, and again {after:.2f} s into the start"


def terminate(relay: RelayUnderTest, moments: random.Random) -> str:
    """SIGTERM, and a restart once it drained."""
    time.sleep(moments.uniform(_SHORTEST, 0.4))
    status = relay.relay.stop()
    assert status == 0, f"ended with {status} on SIGTERM:\n{relay.relay.log()[-3_000:]}"
    relay.relay.start()
    return "SIGTERM"


def _one_worker(relay: RelayUnderTest, moments: random.Random, number: signal.Signals) -> str:
    if relay.plan.workers == 1:
        return calm(relay, moments)
    time.sleep(moments.uniform(_SHORTEST, 0.4))
    count = relay.plan.workers + 1  # one for the metrics; a reload is tried in another, for a moment
    wait_until(lambda: len(relay.workers()) == count, seconds=25, what="all processes")
    victim = moments.choice(relay.workers())
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, number)
    wait_until(
        lambda: victim not in relay.workers() and len(relay.workers()) >= count,
        seconds=25,
        what="another process in place of the one that died",
    )
    wait_until(lambda: answers(relay.relay.port), seconds=10, what="the port")
    return f"{number.name} to one of {count} processes"


def kill_worker(relay: RelayUnderTest, moments: random.Random) -> str:
    """SIGKILL to one worker (or to the process of the metrics)."""
    return _one_worker(relay, moments, signal.SIGKILL)


def terminate_worker(relay: RelayUnderTest, moments: random.Random) -> str:
    """SIGTERM to one worker."""
    return _one_worker(relay, moments, signal.SIGTERM)


def stop_for_a_while(relay: RelayUnderTest, moments: random.Random) -> str:
    """The process does not run for a while, as on a machine that is out of CPU or suspended."""
    seconds = moments.uniform(0.3, 1.5)
    os.killpg(relay.relay.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.killpg(relay.relay.pid, signal.SIGCONT)
    return f"stopped for {seconds:.1f} s"


def spool_full(relay: RelayUnderTest, moments: random.Random) -> str:
    """The spool's disk fills up under load, and is relieved."""
    if relay.spool_disk is None:
        return calm(relay, moments)
    leave = moments.choice([0, 50_000, 400_000])
    relay.spool_disk.fill(leave=leave)
    time.sleep(moments.uniform(0.3, 1.5))
    relay.spool_disk.relieve()
    return f"spool full but for {leave} bytes"


def spool_full_and_kill(relay: RelayUnderTest, moments: random.Random) -> str:
    """Killed while its spool is full; the disk is relieved before the start."""
    if relay.spool_disk is None:
        return kill(relay, moments)
    relay.spool_disk.fill(leave=moments.choice([0, 400_000]))
    time.sleep(moments.uniform(0.2, 0.8))
    relay.relay.kill()
    relay.spool_disk.relieve()
    relay.relay.start()
    return "spool full, SIGKILL"


def spool_locked(relay: RelayUnderTest, moments: random.Random) -> str:
    """Another process holds a part's database: slow for a while, or refusing."""
    seconds = moments.choice([0.2, 0.7, 1.6, 2.5])
    path = moments.choice(relay.databases())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        db.execute("ROLLBACK")
    return f"{path.parent.name} locked for {seconds} s"


def spool_read_only(relay: RelayUnderTest, moments: random.Random) -> str:
    """A start on a read-only disk fails with a message; afterwards all mails still exist."""
    if relay.spool_disk is None:
        return terminate(relay, moments)
    assert relay.relay.stop() == 0
    relay.spool_disk.read_only(True)
    started = relay.relay.spawn()
    status = started.wait(30)
    relay.spool_disk.read_only(False)
    assert status == 2, f"ended with {status} on a read-only spool:\n{relay.relay.log()[-3_000:]}"
    relay.relay.start()
    return "started on a read-only spool"


def output_full(relay: RelayUnderTest, moments: random.Random) -> str:
    """An output's disk fills up, and is relieved."""
    if relay.output_disk is None:
        return calm(relay, moments)
    relay.output_disk.fill(leave=moments.choice([0, 20_000]))
    time.sleep(moments.uniform(0.3, 1.2))
    relay.output_disk.relieve()
    return "output disk full"


def output_in_the_way(relay: RelayUnderTest, moments: random.Random) -> str:
    """An output's folder is moved away and a file takes its name, for a while."""
    aside = relay.second.with_name("aside")
    if not relay.second.exists():
        return calm(relay, moments)
    relay.second.rename(aside)
    with contextlib.suppress(OSError), relay.second.open("x") as obstacle:  # unless it was made anew
        obstacle.write("in the way")
    time.sleep(moments.uniform(0.3, 1.0))
    if relay.second.is_file():
        relay.second.unlink()
    relay.second.mkdir(exist_ok=True)
    for path in aside.iterdir():
        path.rename(relay.second / path.name)
    aside.rmdir()
    return "output folder in the way"


def reload(relay: RelayUnderTest, moments: random.Random) -> str:
    """SIGHUP under load."""
    for _ in range(moments.randrange(1, 4)):
        os.kill(relay.relay.pid, signal.SIGHUP)
        time.sleep(moments.uniform(0.05, 0.3))
    return "SIGHUP"


def clock_jump(relay: RelayUnderTest, moments: random.Random) -> str:
    """The wall clock is set, forwards or backwards."""
    if not relay.plan.clock:
        return calm(relay, moments)
    seconds = moments.choice([-7_200, -90, 0, 90, 7_200])
    relay.set_clock(seconds)
    time.sleep(1.2)
    return f"clock at {seconds:+d} s"


FAULTS: Final[dict[str, tuple[Blow, int]]] = {
    "calm": (calm, 3),
    "kill": (kill, 5),
    "kill while starting": (kill_while_starting, 2),
    "terminate": (terminate, 3),
    "kill a worker": (kill_worker, 4),
    "terminate a worker": (terminate_worker, 3),
    "stopped": (stop_for_a_while, 2),
    "spool full": (spool_full, 4),
    "spool full, kill": (spool_full_and_kill, 2),
    "spool locked": (spool_locked, 3),
    "spool read-only": (spool_read_only, 1),
    "output full": (output_full, 3),
    "output in the way": (output_in_the_way, 2),
    "reload": (reload, 2),
    "clock": (clock_jump, 2),
    **spoiling.LOCAL,
    **DISK_BLOWS,
}
"""Each fault with its weight."""


def possible(plan: Plan) -> dict[str, int]:
    """The faults that apply to a relay of this plan, with their weights."""
    left = {name: weight for name, (_, weight) in FAULTS.items()}
    if plan.workers == 1:
        del left["kill a worker"], left["terminate a worker"]
    if not plan.disks:
        for name in ("spool full", "spool full, kill", "spool read-only", "output full"):
            del left[name]
    if not plan.thin:
        for name in NEED_A_THIN_DISK:
            del left[name]
    left["clock"] = 6 if plan.clock else 0
    for name in () if plan.clock else (spoiling.AHEAD, spoiling.BACK):
        del left[name]
    return left


GENTLE: Final = frozenset({"calm", "reload", "stopped", "output full", "spool locked", "clock"})
"""The faults after which the relay's counters must agree to the mail: no process ended."""
