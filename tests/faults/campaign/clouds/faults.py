"""Faults for a cloud's site: each one is made, then repaired, and leaves a site that runs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from tests.faults.campaign import spoiling
from tests.faults.campaign.clouds.proxy import BEHAVIOURS, BLOCKING
from tests.faults.campaign.clouds.site import WORKERS, Site
from tests.faults.campaign.dependencies import NextHop
from tests.faults.campaign.episodes import Say
from tests.faults.campaign.numbered_mails import Book
from tests.support.net import answers, wait_until

Blow = Callable[[Site, random.Random], str]


def _calm(site: Site, moments: random.Random) -> str:
    time.sleep(moments.uniform(0.2, 0.6))
    return "calm"


def _kill(site: Site, moments: random.Random) -> str:
    time.sleep(moments.uniform(0.05, 0.4))
    site.relay.kill()
    site.relay.start()
    return "SIGKILL to the listener"


def _terminate(site: Site, moments: random.Random) -> str:
    time.sleep(moments.uniform(0.05, 0.4))
    status = site.relay.stop()
    assert status == 0, f"ended with {status}:\n{site.relay.log()[-3_000:]}"
    site.relay.start()
    return "SIGTERM to the listener"


def _one_worker(site: Site, moments: random.Random, number: signal.Signals) -> str:
    wait_until(lambda: len(site.workers()) >= WORKERS, seconds=25, what="all workers")
    victim = moments.choice(site.workers())
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, number)
    wait_until(
        lambda: victim not in site.workers() and len(site.workers()) >= WORKERS,
        seconds=25,
        what="another worker",
    )
    wait_until(lambda: answers(site.relay.port), seconds=10, what="the port")
    return f"{number.name} to a worker"


def _kill_worker(site: Site, moments: random.Random) -> str:
    return _one_worker(site, moments, signal.SIGKILL)


def _terminate_worker(site: Site, moments: random.Random) -> str:
    return _one_worker(site, moments, signal.SIGTERM)


def _kill_function(site: Site, moments: random.Random) -> str:
    return site.kill_function(moments)


def _stop_function(site: Site, moments: random.Random) -> str:
    return site.stop_function(moments)


def _kill_next(site: Site, moments: random.Random) -> str:
    time.sleep(moments.uniform(0.05, 0.6))
    site.peers.next_relay.kill()
    site.peers.next_relay.start()
    return "SIGKILL to the next hop that takes tokens"


def _repeat(site: Site, moments: random.Random) -> str:
    keys = site.see()[:60] * 2
    moments.shuffle(keys)
    site.notify(keys)
    return f"{len(keys)} events repeated, in another order"


def _late(site: Site, moments: random.Random) -> str:
    """Events of mails that are finished, or unfinished, come late."""
    site.see()
    keys = moments.sample(site.known, min(40, len(site.known)))
    return site.ring_late(keys, moments)


def _silence(site: Site, moments: random.Random) -> str:
    site.silence(moments.uniform(0.5, 1.5))
    site.sweep()
    return "events lost, then a sweep"


def _at_once(site: Site, moments: random.Random) -> str:
    keys = site.see()[:6]
    runs = moments.randrange(2, 5)
    if keys:
        site.at_once(keys, runs, moments)
    return f"{len(keys)} events in {runs} runs at once"


def _clock(site: Site, moments: random.Random) -> str:
    """The function's clock does not go hours ahead, because the claim of a run that is killed then
    would block other runs for hours."""
    listener = moments.choice([-7_200, -90, 0, 90, 7_200])
    function = moments.choice([-7_200, -90, 0, 30])
    site.set_clocks(listener, function)
    time.sleep(1.0)
    return f"clocks at {listener:+d} s and {function:+d} s"


FAULTS: Final[Mapping[str, tuple[Blow, int]]] = {
    "calm": (_calm, 1),
    "listener killed": (_kill, 3),
    "listener stopped": (_terminate, 2),
    "worker killed": (_kill_worker, 2),
    "worker stopped": (_terminate_worker, 2),
    "function killed": (_kill_function, 4),
    "function stopped": (_stop_function, 2),
    "next hop killed": (_kill_next, 2),
    "events repeated": (_repeat, 2),
    "events late": (_late, 2),
    "events lost": (_silence, 2),
    "events at once": (_at_once, 3),
    "clocks set": (_clock, 2),
    **spoiling.CLOUDS,
}
"""Each fault with its weight. In the first rounds of an episode each of them comes once."""


def conditions(site: Site, moments: random.Random) -> str:
    """Choose it, and describe it."""
    site.store.behaviour = moments.choice(BEHAVIOURS) if moments.random() < 0.6 else "fine"
    if time.monotonic() >= site.outage_ends:
        site.home.behaviour = moments.choice(BEHAVIOURS) if moments.random() < 0.4 else "fine"
        site.calls.behaviour = moments.choice(BEHAVIOURS) if moments.random() < 0.4 else "fine"
        site.next_hop.behaviour = moments.choice(NextHop.BEHAVIOURS) if moments.random() < 0.6 else "fine"
        for one in site.around:
            one.part.behaviour = moments.choice(one.behaviours) if moments.random() < 0.6 else "fine"
    around = "".join(f", {one.name} {one.part.behaviour}" for one in site.around)
    return (
        f"spool {site.store.behaviour}; function's buckets {site.home.behaviour}, "
        f"calls {site.calls.behaviour}; "
        f"next hop {site.next_hop.behaviour}{around}"
    )


def outage(site: Site, seconds: float) -> None:
    """Every output is down from now on, for longer than the first backoff (30 s)."""
    site.home.behaviour = "fine"
    site.calls.behaviour = site.next_hop.behaviour = "down"
    for one in site.around:
        one.part.behaviour = one.out
    site.outage_ends = time.monotonic() + seconds


def _digest(site: Site, most: int, seconds: float = 12) -> None:
    """Let the function catch up with the clients, because the faults would otherwise strike only
    waiting mails."""
    ends = time.monotonic() + seconds
    while len(site.see()) > most and time.monotonic() < ends:
        time.sleep(0.5)


def play(site: Site, book: Book, rounds: int, mails: int, moments: random.Random, say: Say) -> Counter[str]:
    """So many rounds, each with so many mails at least. Gives the faults."""
    struck: Counter[str] = Counter()
    order = list(FAULTS)
    moments.shuffle(order)
    out_at = moments.randrange(rounds)
    for number in range(rounds):
        weights = [weight for _, weight in FAULTS.values()]
        name = order.pop() if order else moments.choices(list(FAULTS), weights)[0]
        if number == out_at:
            outage(site, 35)
        how = conditions(site, moments)
        target = book.taken + mails
        # More mails than the stand-ins can carry would only wait there.
        book.most = target + mails // 4
        done = FAULTS[name][0](site, moments)
        if site.store.behaviour in BLOCKING:
            time.sleep(moments.uniform(0.5, 1.5))
            site.store.behaviour = "fine"
        wait_until(lambda: book.taken >= target, seconds=120, what="mails to be taken", every=0.02)  # noqa: B023
        _digest(site, 3 * mails)
        site.collect()
        struck[name] += 1
        down = " (all outputs down)" if time.monotonic() < site.outage_ends else ""
        say(f"  round {number + 1}/{rounds}: {done}; {how}{down}; {book.taken} mails so far")
    time.sleep(max(0.0, site.outage_ends - time.monotonic()))
    return struck
