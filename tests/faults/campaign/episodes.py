"""Rounds of faults and failing services under load, with an audit at the end of each episode."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.campaign import spoiling
from tests.faults.campaign.audit import audit, traces
from tests.faults.campaign.clients import busy
from tests.faults.campaign.clouds.proxy import ANSWERING
from tests.faults.campaign.dependencies import ZONES, FilterServer, Hook, NextHop, TokenEndpoint
from tests.faults.campaign.disk_faults import PROOFS, cut
from tests.faults.campaign.faults import FAULTS, GENTLE, possible
from tests.faults.campaign.found import Found
from tests.faults.campaign.numbered_mails import Book
from tests.faults.campaign.relay_under_test import Plan, RelayUnderTest, may_mount, relay_under_test
from tests.support.net import wait_until

PLANS: Final = (
    Plan(),
    Plan(workers=2, clock=True, retention=True, oauth=True),
    Plan(on_doubt="dead-letter", retention=True),
    Plan(workers=2, durable=False),
    Plan(clock=True, oauth=True),
    Plan(disks=False, thin=True, retention=True),
    Plan(disks=False, thin=True, workers=2, on_doubt="dead-letter"),
    Plan(aws=True, workers=2, oauth=True),
    Plan(aws=True, on_doubt="dead-letter"),
)
"""The plans of the relays under test, one episode after the other."""

CLIENTS: Final = 8

SLOWNESS: Final = (0.05, 0.3, 1.2)
"""Seconds for which each write to a slow output's disk may wait."""


@dataclass
class Summary:
    """Over all episodes."""

    rounds: int = 0
    found: Found = field(default_factory=Found)
    faults: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        found = self.found
        copies = ", ".join(
            f"{times} repeated in doubt by {name}" for name, times in sorted(found.copies.items())
        )
        copies = f"{dict(sorted(found.outputs.items()))}, {copies or 'none repeated in doubt'}"
        codes = ", ".join(f"{times} × {code}" for code, times in sorted(self.codes.items()))
        return (
            f"{self.rounds} rounds, {found.mails} mails taken of {found.sent} sent, {len(found.lost)} lost, "
            f"{len(found.torn)} torn, {len(found.repeated)} repeated ({found.effects} effects, "
            f"{copies}, {found.dead} dead with a reason, {found.spoiled} spoiled and dead; replies {codes}; "
            f"struck {dict(sorted(self.struck.items()))}; "
            f"{self.seconds:.0f} s)"
        )


Say = Callable[[str], None]


def episode(folder: Path, plan: Plan, rounds: int, mails: int, seed: str, say: Say = print) -> Summary:
    """So many rounds on one relay, with at least so many mails a round. Raises AssertionError with all
    faults at the end."""
    moments = random.Random(seed)
    summary = Summary(rounds=rounds)
    began = time.monotonic()
    book = Book()
    say(f"episode {seed!r}: {plan}")
    with relay_under_test(folder, plan, seed) as made:
        with busy(book, made.ports, CLIENTS, seed):
            for number in range(rounds):
                _round(made, book, moments, mails, summary, f"{number + 1}/{rounds}", say)
        made.all_well()
        assert made.relay.alive, f"the relay ended:\n{made.relay.log()[-4_000:]}"
        made.quiet()
        if made.thin is not None:
            # A mail that left the spool is on the disk, or it is lost.
            cut(made)
            made.relay.start()
            made.quiet()
        summary.struck["token requests failed"] += made.tokens.failed
        summary.struck["posts failed"] += made.hook.failed
        if made.targets is not None:
            summary.struck["entries failed"] += made.targets.proxy.failed_entries
        found = audit(made, book, counters=summary.faults.keys() <= GENTLE)
        assert made.relay.stop() == 0
        made.relay.start()
        assert made.relay.stop() == 0
        found.other += traces(made)
        missed = [name for name in spoiling.LOCAL if summary.faults[name] and not made.struck[name]]
        found.other += [f"the fault {name!r} had no effect" for name in missed]
    summary.struck.update(made.struck)
    summary.found = found
    summary.codes.update(book.codes)
    summary.seconds = time.monotonic() - began
    assert not found.wrong, f"seed {seed!r}:\n" + "\n".join(found.wrong[:40])
    assert all(made.struck[proof] for name, proof in PROOFS.items() if summary.faults[name]), made.struck
    return summary


def _round(
    made: RelayUnderTest,
    book: Book,
    moments: random.Random,
    mails: int,
    summary: Summary,
    which: str,
    say: Say,
) -> None:
    made.next_hop.behaviour = moments.choice(NextHop.BEHAVIOURS) if moments.random() < 0.7 else "fine"
    made.hook.behaviour = moments.choice(Hook.BEHAVIOURS) if moments.random() < 0.7 else "fine"
    made.filter_server.behaviour = (
        moments.choice(FilterServer.BEHAVIOURS) if moments.random() < 0.5 else "fine"
    )
    made.tokens.behaviour = moments.choice(TokenEndpoint.BEHAVIOURS) if moments.random() < 0.7 else "fine"
    if made.targets is not None:
        made.targets.proxy.behaviour = moments.choice(ANSWERING) if moments.random() < 0.7 else "fine"
    zone = moments.choice(list(ZONES)) if moments.random() < 0.4 else "fine"
    made.dns.zone = ZONES[zone]
    weights = possible(made.plan)
    name = moments.choices(list(weights), list(weights.values()))[0]
    slow = moments.choice(SLOWNESS) if moments.random() < 0.3 else 0.0
    target = book.taken + mails
    conditions = (
        f"next hop {made.next_hop.behaviour}, filter {made.filter_server.behaviour}, "
        f"webhook {made.hook.behaviour}, DNS {zone}, output {slow:g} s"
    )
    conditions += f", tokens {made.tokens.behaviour}" if made.plan.oauth else ""
    conditions += f", AWS {made.targets.proxy.behaviour}" if made.targets is not None else ""
    summary.faults[name] += 1
    with made.slow_output(slow, f"{which} {name}"):
        done = FAULTS[name][0](made, moments)
        say(f"  round {which}: {done}; {conditions}; {book.taken} mails so far")
        if slow:
            some = book.taken + mails // 10
            wait_until(lambda: book.taken >= some, seconds=60, what="mails past a slow output", every=0.02)
    wait_until(lambda: book.taken >= target, seconds=60, what="mails to be sent", every=0.02)


def gentle_episode(folder: Path, mails: int, seed: str, say: Say = print) -> Summary:
    """An episode in which no process ends: the relay's counters must agree to the mail."""
    moments = random.Random(seed)
    summary = Summary()
    began = time.monotonic()
    book = Book()
    plan = Plan(disks=may_mount())
    with relay_under_test(folder, plan, seed) as made:
        with busy(book, made.ports, CLIENTS, seed):
            for name in sorted(GENTLE - {"clock"}):
                made.next_hop.behaviour = moments.choice(("fine", "busy", "throttling", "some fail"))
                summary.faults[name] += 1
                summary.rounds += 1
                done = FAULTS[name][0](made, moments)
                target = book.taken + mails
                say(f"  gentle: {done}; next hop {made.next_hop.behaviour}")
                wait_until(lambda t=target: book.taken >= t, seconds=60, what="mails")  # type: ignore[misc]
        made.all_well()
        made.quiet()
        summary.found = audit(made, book, counters=True)
        assert made.relay.stop() == 0
    summary.codes.update(book.codes)
    summary.seconds = time.monotonic() - began
    assert not summary.found.wrong, f"seed {seed!r}:\n" + "\n".join(summary.found.wrong[:40])
    return summary
