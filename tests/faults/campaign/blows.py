"""Faults for a busy relay: each blow strikes and heals, and leaves a relay that runs."""

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
from tests.faults.campaign.disk_blows import DISK_BLOWS, NEED_A_THIN_DISK
from tests.faults.campaign.house import House, Plan
from tests.support.net import answers, wait_until

Blow = Callable[[House, random.Random], str]
"""Strikes; returns a description for the log."""

_SHORTEST: Final = 0.05


def calm(house: House, moments: random.Random) -> str:
    """Nothing: only the weather."""
    time.sleep(moments.uniform(0.2, 0.6))
    return "calm"


def kill(house: House, moments: random.Random) -> str:
    """SIGKILL to all of it, and a restart."""
    time.sleep(moments.uniform(_SHORTEST, 0.6))
    house.relay.kill()
    house.relay.start()
    return "SIGKILL"


def kill_while_starting(house: House, moments: random.Random) -> str:
    """SIGKILL, and again while it takes up the spool."""
    house.relay.kill()
    house.relay.spawn()
    after = moments.uniform(0.3, 1.0)
    time.sleep(after)
    house.relay.kill()
    house.relay.start()
    return f"SIGKILL, and again {after:.2f} s into the start"


def terminate(house: House, moments: random.Random) -> str:
    """SIGTERM, and a restart once it drained."""
    time.sleep(moments.uniform(_SHORTEST, 0.4))
    status = house.relay.stop()
    assert status == 0, f"ended with {status} on SIGTERM:\n{house.relay.log()[-3_000:]}"
    house.relay.start()
    return "SIGTERM"


def _one_worker(house: House, moments: random.Random, number: signal.Signals) -> str:
    if house.plan.workers == 1:
        return calm(house, moments)
    time.sleep(moments.uniform(_SHORTEST, 0.4))
    count = house.plan.workers + 1  # one for the metrics; a reload is tried in another, for a moment
    wait_until(lambda: len(house.workers()) == count, seconds=25, what="all processes")
    victim = moments.choice(house.workers())
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, number)
    wait_until(
        lambda: victim not in house.workers() and len(house.workers()) >= count,
        seconds=25,
        what="another process in place of the one that died",
    )
    wait_until(lambda: answers(house.relay.port), seconds=10, what="the port")
    return f"{number.name} to one of {count} processes"


def kill_worker(house: House, moments: random.Random) -> str:
    """SIGKILL to one worker (or to the process of the metrics)."""
    return _one_worker(house, moments, signal.SIGKILL)


def terminate_worker(house: House, moments: random.Random) -> str:
    """SIGTERM to one worker."""
    return _one_worker(house, moments, signal.SIGTERM)


def stop_for_a_while(house: House, moments: random.Random) -> str:
    """The process does not run for a while, as on a machine that is out of CPU or suspended."""
    seconds = moments.uniform(0.3, 1.5)
    os.killpg(house.relay.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.killpg(house.relay.pid, signal.SIGCONT)
    return f"stopped for {seconds:.1f} s"


def spool_full(house: House, moments: random.Random) -> str:
    """The spool's disk fills up under load, and is relieved."""
    if house.spool_disk is None:
        return calm(house, moments)
    leave = moments.choice([0, 50_000, 400_000])
    house.spool_disk.fill(leave=leave)
    time.sleep(moments.uniform(0.3, 1.5))
    house.spool_disk.relieve()
    return f"spool full but for {leave} bytes"


def spool_full_and_kill(house: House, moments: random.Random) -> str:
    """Killed while its spool is full; the disk is relieved before the start."""
    if house.spool_disk is None:
        return kill(house, moments)
    house.spool_disk.fill(leave=moments.choice([0, 400_000]))
    time.sleep(moments.uniform(0.2, 0.8))
    house.relay.kill()
    house.spool_disk.relieve()
    house.relay.start()
    return "spool full, SIGKILL"


def spool_locked(house: House, moments: random.Random) -> str:
    """Another process holds a part's database: slow for a while, or refusing."""
    seconds = moments.choice([0.2, 0.7, 1.6, 2.5])
    path = moments.choice(house.databases())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        db.execute("ROLLBACK")
    return f"{path.parent.name} locked for {seconds} s"


def spool_read_only(house: House, moments: random.Random) -> str:
    """A start on a read-only disk fails with a message; afterwards all mails still exist."""
    if house.spool_disk is None:
        return terminate(house, moments)
    assert house.relay.stop() == 0
    house.spool_disk.read_only(True)
    started = house.relay.spawn()
    status = started.wait(30)
    house.spool_disk.read_only(False)
    assert status == 2, f"ended with {status} on a read-only spool:\n{house.relay.log()[-3_000:]}"
    house.relay.start()
    return "started on a read-only spool"


def output_full(house: House, moments: random.Random) -> str:
    """An output's disk fills up, and is relieved."""
    if house.output_disk is None:
        return calm(house, moments)
    house.output_disk.fill(leave=moments.choice([0, 20_000]))
    time.sleep(moments.uniform(0.3, 1.2))
    house.output_disk.relieve()
    return "output disk full"


def output_in_the_way(house: House, moments: random.Random) -> str:
    """An output's folder is moved away and a file takes its name, for a while."""
    aside = house.second.with_name("aside")
    if not house.second.exists():
        return calm(house, moments)
    house.second.rename(aside)
    with contextlib.suppress(OSError), house.second.open("x") as obstacle:  # unless it was made anew
        obstacle.write("in the way")
    time.sleep(moments.uniform(0.3, 1.0))
    if house.second.is_file():
        house.second.unlink()
    house.second.mkdir(exist_ok=True)
    for path in aside.iterdir():
        path.rename(house.second / path.name)
    aside.rmdir()
    return "output folder in the way"


def reload(house: House, moments: random.Random) -> str:
    """SIGHUP under load."""
    for _ in range(moments.randrange(1, 4)):
        os.kill(house.relay.pid, signal.SIGHUP)
        time.sleep(moments.uniform(0.05, 0.3))
    return "SIGHUP"


def clock_jump(house: House, moments: random.Random) -> str:
    """The wall clock is set, forwards or backwards."""
    if not house.plan.clock:
        return calm(house, moments)
    seconds = moments.choice([-7_200, -90, 0, 90, 7_200])
    house.set_clock(seconds)
    time.sleep(1.2)
    return f"clock at {seconds:+d} s"


BLOWS: Final[dict[str, tuple[Blow, int]]] = {
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
"""Each blow with its weight."""


def possible(plan: Plan) -> dict[str, int]:
    """The blows that apply to a house of this plan, with their weights."""
    left = {name: weight for name, (_, weight) in BLOWS.items()}
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
"""The blows after which the relay's counters must agree to the mail: no process ended."""
