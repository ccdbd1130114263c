"""Faults of the disk below spool and outputs, which loses writes, and of consumers of the delivered
files."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Callable
from typing import Final

from tests.faults.campaign.consumers import hungry
from tests.faults.campaign.relay_under_test import RelayUnderTest
from tests.support.net import wait_until

_LOST: Final = (
    "cannot be synced",
    "could not be made durable",
    "a sync of the spool failed",
    "could not be written anew",
)
"""The log's words for a failed sync."""

_PATIENCE: Final = 60.0
_SOON: Final = 30.0


def _lost(relay: RelayUnderTest) -> int:
    log = relay.relay.log()
    return sum(log.count(words) for words in _LOST)


def _starve(relay: RelayUnderTest, moments: random.Random) -> int:
    """The disk loses writes until the relay has noticed; returns how often it noticed."""
    assert relay.thin is not None
    before = _lost(relay)
    relay.thin.starve(at_once=True)
    wait_until(lambda: _lost(relay) > before, seconds=_SOON, what="a sync that fails", every=0.02)
    time.sleep(moments.uniform(0.0, 0.6))
    struck = _lost(relay) - before
    relay.struck["failed syncs"] += struck
    return struck


def cut(relay: RelayUnderTest) -> None:
    """The power fails: the relay dies, and the disk keeps its present content."""
    assert relay.thin is not None
    relay.relay.kill()
    # From here on, data that the kernel has not written is lost, this file for certain: it proves
    # the cut.
    relay.thin.starve(at_once=True)
    canary = relay.thin.path / "canary"
    with contextlib.suppress(OSError):  # a file system that ended accepts none
        canary.write_bytes(os.urandom(4_096))
        assert canary.read_bytes().strip(b"\0")
    relay.thin.cut()
    assert not canary.exists() or not canary.read_bytes().strip(b"\0"), "the power cut took nothing"
    canary.unlink(missing_ok=True)
    relay.struck["power cuts"] += 1


def _again(relay: RelayUnderTest) -> None:
    """A file system whose own blocks were lost accepts no writes before it is mounted again."""
    assert relay.thin is not None
    if not relay.thin.writable():
        relay.struck["file systems that ended"] += 1
        cut(relay)
        relay.relay.start()


def write_back(relay: RelayUnderTest, moments: random.Random) -> str:
    """Writes are lost for a while."""
    struck = _starve(relay, moments)
    assert relay.thin is not None
    relay.thin.relieve()
    _again(relay)
    return f"{struck} failed syncs"


def write_back_and_kill(relay: RelayUnderTest, moments: random.Random) -> str:
    """SIGKILL while writes are lost, and a start before or after that ends."""
    struck = _starve(relay, moments)
    assert relay.thin is not None
    early = moments.random() < 0.5
    relay.relay.kill()
    if early:
        with contextlib.suppress(RuntimeError):  # it may not be able to start
            relay.relay.start()
        time.sleep(moments.uniform(0.0, 0.5))
    relay.thin.relieve()
    _again(relay)
    if not relay.relay.alive:
        relay.relay.start()
    return f"{struck} failed syncs, SIGKILL, started {'before' if early else 'after'} they ended"


def write_back_and_cut(relay: RelayUnderTest, moments: random.Random) -> str:
    """A power cut some time after writes were lost."""
    struck = _starve(relay, moments)
    assert relay.thin is not None
    when = moments.choice(["before they ended", "right after they ended", "later"])
    if when != "before they ended":
        relay.thin.relieve()
    if when == "later":
        _again(relay)
        time.sleep(moments.uniform(0.2, 1.5))
    cut(relay)
    relay.relay.start()
    return f"{struck} failed syncs, a power cut {when}"


def power_cut(relay: RelayUnderTest, moments: random.Random) -> str:
    """A power cut under load."""
    time.sleep(moments.uniform(0.05, 0.6))
    cut(relay)
    relay.relay.start()
    return "power cut"


def consumers(relay: RelayUnderTest, moments: random.Random) -> str:
    """Consumers delete, move, empty and change delivered files as they come, while other things happen
    to the relay."""
    meanwhile = moments.choice(["", "SIGKILL", *(["failed syncs"] if relay.thin else [])])
    before = sum(shelf.count for shelf in relay.shelves)
    with hungry(relay.shelves, str(moments.random())):
        wait_until(
            lambda: sum(shelf.count for shelf in relay.shelves) > before + 20,
            seconds=_PATIENCE,
            what="files for the consumers",
            every=0.02,
        )
        if meanwhile == "SIGKILL":
            relay.relay.kill()
            relay.relay.start()
        elif meanwhile == "failed syncs":
            write_back(relay, moments)
        time.sleep(moments.uniform(0.2, 0.8))
    struck = sum(shelf.count for shelf in relay.shelves) - before
    relay.struck["files consumed"] += struck
    _settled(relay)
    return f"{struck} files taken by their consumers{' and ' if meanwhile else ''}{meanwhile}"


def _settled(relay: RelayUnderTest) -> None:
    """Wait until the consumed files are durable, which their traces show: a later power cut does not
    bring them back."""
    consumed = {mail_id for shelf in relay.shelves for mail_id in shelf.ids()}
    folders = [relay.second, relay.checked, *relay.spool.glob("part-*/staging")]

    def settled() -> bool:
        waiting: set[str] = set()
        for path in relay.databases():
            with contextlib.closing(sqlite3.connect(path, timeout=10)) as db:
                waiting |= {
                    mail_id for (mail_id,) in db.execute("SELECT id FROM mail WHERE parked = 0")
                } & consumed
        names = [path.name for folder in folders if folder.exists() for path in folder.glob(".*")]
        return not any(name[1:37] in waiting for name in names)

    wait_until(settled, seconds=_PATIENCE, what="what the consumers took to be settled", every=0.05)
    if relay.thin is not None:
        os.sync()  # the consumers' own changes


DISK_BLOWS: Final[dict[str, tuple[Callable[[RelayUnderTest, random.Random], str], int]]] = {
    "write-back errors": (write_back, 6),
    "write-back errors, kill": (write_back_and_kill, 4),
    "write-back errors, power cut": (write_back_and_cut, 5),
    "power cut": (power_cut, 3),
    "consumers": (consumers, 3),
}
"""Each fault with its weight."""

NEED_A_THIN_DISK: Final = frozenset(DISK_BLOWS) - {"consumers"}

PROOFS: Final = {
    "write-back errors": "failed syncs",
    "write-back errors, kill": "failed syncs",
    "write-back errors, power cut": "power cuts",
    "power cut": "power cuts",
    "consumers": "files consumed",
}
"""Entries of `RelayUnderTest.struck` that are above 0 after a fault struck."""
