"""Faults that spoil stored mails, or the time: bodies that rot while their mails wait, and clocks that
are days wrong for seconds. Each counts its effects in `struck`: a fault without one proves nothing."""

from __future__ import annotations

import contextlib
import hashlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.faults.campaign.clouds.observation import entries
from tests.faults.campaign.clouds.site import Site
from tests.faults.campaign.numbered_mails import number_of
from tests.faults.campaign.relay_under_test import RelayUnderTest
from tests.support.mails.damage import DAMAGES
from tests.support.net import wait_until

BODIES: Final = "bodies spoiled"
AHEAD: Final = "clock days ahead"
BACK: Final = "clock days back"

DAYS: Final = 4 * 86_400.0
"""More than `giveUpAfter`."""

_PATIENCE: Final = 120.0


class Spoiled(NamedTuple):
    """One mail whose stored body was changed: its number, and the SHA-256 of its stored content now."""

    number: int
    digest: bytes


def rot(data: bytes, moments: random.Random) -> bytes:
    """Other bytes than these."""
    return DAMAGES[moments.choice(sorted(DAMAGES))](data)


@contextmanager
def _next_hop_down(relay: RelayUnderTest | Site) -> Iterator[None]:
    """Mails wait for it meanwhile."""
    behaviour, relay.next_hop.behaviour = relay.next_hop.behaviour, "down"
    try:
        yield
    finally:
        relay.next_hop.behaviour = behaviour


# -- a folder ---------------------------------------------------------------------------------------


def bodies(relay: RelayUnderTest, moments: random.Random) -> str:
    """Change the stored content of some mails that wait for the next hop."""
    with _next_hop_down(relay):
        wait_until(lambda: relay.count(_TRIED) >= 3, seconds=_PATIENCE, what="mails that wait")
        count = sum(_spoil(relay, database, moments) for database in relay.databases())
    relay.struck[BODIES] += count
    return f"{count} stored bodies spoiled"


_TRIED: Final = "SELECT count(*) FROM mail WHERE parked = 0 AND attempts > 0"


def _spoil(relay: RelayUnderTest, database: Path, moments: random.Random) -> int:
    """Spoil up to three mails of one part. A new file replaces a large one, because a delivered link to
    the old file must stay unchanged."""
    spoiled: dict[str, Spoiled] = {}
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=5)) as db:
        db.execute("BEGIN IMMEDIATE")
        rows = list(db.execute("SELECT seq, id, body FROM mail WHERE parked = 0 AND attempts > 0"))
        # Large mails are rare, and stored in another way.
        rows.sort(key=lambda row: (row[2] is not None, moments.random()))
        for seq, mail_id, body in rows[:3]:
            path = database.parent / "large" / f"{mail_id}.eml"
            data = path.read_bytes() if body is None else body
            number = number_of(data)
            if number is None or mail_id in relay.spoiled:
                continue
            changed = rot(data, moments)
            if body is None:
                aside = database.parent / "staging" / f".{mail_id}.spoiled"
                aside.write_bytes(changed)
                aside.replace(path)
            else:
                db.execute("UPDATE mail SET body = ? WHERE seq = ?", (changed, seq))
            spoiled[mail_id] = Spoiled(number, hashlib.sha256(changed).digest())
        db.execute("COMMIT")
    relay.spoiled |= spoiled
    return len(spoiled)


def stored_digest(relay: RelayUnderTest, mail_id: str) -> bytes | None:
    """The SHA-256 of the spool's content of a mail now, None if it holds none."""
    for database in relay.databases():
        with contextlib.closing(sqlite3.connect(database, timeout=10)) as db:
            row = db.execute("SELECT body FROM mail WHERE id = ?", (mail_id,)).fetchone()
        if row is not None:
            path = database.parent / "large" / f"{mail_id}.eml"
            return hashlib.sha256(path.read_bytes() if row[0] is None else row[0]).digest()
    return None


def clock_ahead(relay: RelayUnderTest, moments: random.Random) -> str:
    """The wall clock is days ahead for seconds, while mails are tried again."""
    return _clock(relay, moments, AHEAD, DAYS)


def clock_back(relay: RelayUnderTest, moments: random.Random) -> str:
    """The wall clock is days behind for seconds."""
    return _clock(relay, moments, BACK, -DAYS)


def _clock(relay: RelayUnderTest, moments: random.Random, name: str, seconds: float) -> str:
    with _next_hop_down(relay):
        wait_until(lambda: relay.count(_TRIED) >= 3, seconds=_PATIENCE, what="mails that wait")
        before = relay.retries()
        relay.set_clock(seconds)
        time.sleep(moments.uniform(2.0, 4.0))
        wait_until(lambda: relay.retries() > before + 3, seconds=_PATIENCE, what="attempts meanwhile")
        tried = relay.retries() - before
        relay.set_clock(0.0)
    relay.struck[name] += tried
    return f"clock {seconds / 86_400:+.0f} days for seconds, {tried} attempts meanwhile"


# -- a bucket ---------------------------------------------------------------------------------------


def objects(site: Site, moments: random.Random) -> str:
    """Change the stored content of some waiting objects."""
    with _next_hop_down(site):
        _wait_for_mails(site, 2)
        count = 0
        for key in moments.sample(waiting := site.waiting(), min(3, len(waiting))):
            count += _spoil_object(site, key, moments)
        site.notify(site.see()[:20])
    site.struck[BODIES] += count
    return f"{count} objects spoiled"


def _wait_for_mails(site: Site, least: int) -> None:
    """Until so many are in the spool, which has to take them for that."""
    behaviour = site.store.behaviour
    if len(site.waiting()) < least:
        site.store.behaviour = "fine"
        wait_until(lambda: len(site.waiting()) >= least, seconds=_PATIENCE, what="mails that wait", every=0.5)
    site.store.behaviour = behaviour


def _spoil_object(site: Site, key: str, moments: random.Random) -> int:
    data = site.read_spooled(key)
    number = number_of(data) if data is not None else None
    mail_id = key.rpartition("/")[2].removesuffix(".eml")
    if data is None or number is None or mail_id in site.spoiled:
        return 0
    # Below the envelope's field, which ends before the first line that is not folded.
    head = data.index(b"\r\nx-smtp-relay: ") + 2
    changed = data[:head] + rot(data[head:], moments)
    site.spoiled[mail_id] = Spoiled(number, hashlib.sha256(changed).digest())
    site.write_spooled(key, changed)
    return 1


def clocks_ahead(site: Site, moments: random.Random) -> str:
    """The function's clock is days ahead for seconds, while it tries mails again."""
    return _clocks(site, moments, AHEAD, DAYS)


def clocks_back(site: Site, moments: random.Random) -> str:
    """The function's clock is days behind for seconds."""
    return _clocks(site, moments, BACK, -DAYS)


def _clocks(site: Site, moments: random.Random, name: str, seconds: float) -> str:
    """A run gives its claims back meanwhile, or finishes: no process is killed, and all else works."""
    behaviours = site.home.behaviour, site.calls.behaviour
    site.home.behaviour = site.calls.behaviour = "fine"
    with _next_hop_down(site):
        _wait_for_mails(site, 1)
        before = _tried(site)
        site.set_clocks(0.0, seconds)
        site.notify(site.waiting()[:10])
        wait_until(lambda: _tried(site) > before, seconds=_PATIENCE, what="attempts meanwhile", every=0.3)
        time.sleep(moments.uniform(1.0, 3.0))
        tried = _tried(site) - before
        site.set_clocks(0.0, 0.0)
        time.sleep(4.0)  # what began under the wrong clock has ended
    site.home.behaviour, site.calls.behaviour = behaviours
    site.struck[name] += tried
    return f"function's clock {seconds / 86_400:+.0f} days for seconds, {tried} attempts meanwhile"


def _tried(site: Site) -> int:
    lines = entries(site.log)
    return sum(line["output"] == "hop" and line["message"] == "tried again later" for line in lines)


LOCAL: Final[dict[str, tuple[Callable[[RelayUnderTest, random.Random], str], int]]] = {
    BODIES: (bodies, 3),
    AHEAD: (clock_ahead, 3),
    BACK: (clock_back, 2),
}

CLOUDS: Final[dict[str, tuple[Callable[[Site, random.Random], str], int]]] = {
    BODIES: (objects, 2),
    AHEAD: (clocks_ahead, 2),
    BACK: (clocks_back, 1),
}
