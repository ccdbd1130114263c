"""The campaign on the local stand-ins of a cloud: `python -m tests.faults.run_clouds aws`."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

from tests.faults.campaign import spoiling
from tests.faults.campaign.clients import busy
from tests.faults.campaign.clouds.audit import audit
from tests.faults.campaign.clouds.faults import play
from tests.faults.campaign.clouds.site import Site, running
from tests.faults.campaign.episodes import Say, Summary
from tests.faults.campaign.numbered_mails import Book
from tests.faults.run import LEAST, add, say

CLIENTS: Final = 4
EPISODE: Final = 25  # rounds
ON_DOUBT: Final = ("resend", "dead-letter")

Make = Callable[[Path, str, str], AbstractContextManager[Site]]

CLOUDS: Final = {
    "aws": "tests.faults.campaign.clouds.aws_site",
    "gcp": "tests.faults.campaign.clouds.gcp_site",
}
"""Cloud to the module whose `site(folder, seed, on_doubt)` makes a site."""


def episode(
    make: Make, folder: Path, rounds: int, mails: int, seed: str, on_doubt: str, say: Say = print
) -> Summary:
    """So many rounds with at least so many mails each. Raises AssertionError with all that is wrong."""
    summary = Summary(rounds=rounds)
    book = Book()
    began = time.monotonic()
    say(f"episode {seed!r}: onDoubt {on_doubt}")
    with make(folder, seed, on_doubt) as made, running(made) as ports:
        with busy(book, ports, CLIENTS, seed):
            summary.faults.update(play(made, book, rounds, mails, random.Random(seed), say))
        made.all_well()
        say(f"  all dependencies work: {len(made.waiting())} mails are owed")
        made.finish()
        summary.found = audit(made, book)
        summary.struck.update(made.struck)
        summary.struck["token requests failed"] += made.peers.tokens.failed
        summary.struck["posts failed"] += made.peers.hook.failed
        summary.struck["entries failed"] += made.entries_failed
        missed = [name for name in spoiling.CLOUDS if summary.faults[name] and not made.struck[name]]
        summary.found.other += [f"the fault {name!r} had no effect" for name in missed]
        assert made.relay.stop() == 0
        reasons = {name: made.repeating[name] for name in summary.found.copies}
    summary.codes.update(book.codes)
    summary.seconds = time.monotonic() - began
    assert not summary.found.wrong, f"seed {seed!r}:\n" + "\n".join(summary.found.wrong[:40])
    for name, reason in sorted(reasons.items()):
        say(f"  {summary.found.copies[name]} copies by {name}, each announced as in doubt: {reason}")
    return summary


def main() -> int:
    """Run until both numbers are reached; prints the seed, each round and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cloud", choices=sorted(CLOUDS))
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--mails", type=int, default=5_000)
    parser.add_argument("--seed", default=os.urandom(4).hex(), help="to repeat a campaign")
    parser.add_argument("--on-doubt", choices=ON_DOUBT, help="only sites with this `onDoubt`")
    given = parser.parse_args()
    modes = ON_DOUBT if given.on_doubt is None else (given.on_doubt,)
    make: Make = import_module(CLOUDS[given.cloud]).site
    say(f"{given.cloud}: seed {given.seed}")
    total = Summary()
    a_round = -(-given.mails // given.rounds)
    share = max(LEAST, -(-given.rounds // len(modes)))
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{given.cloud}-"))
    for number in itertools.count():
        if total.rounds >= given.rounds and total.found.mails >= given.mails:
            break
        rounds = min(EPISODE, share, max(LEAST, given.rounds - total.rounds))
        place, seed = folder / str(number), f"{given.seed}-{number}"
        try:
            made = episode(make, place, rounds, a_round, seed, modes[number % len(modes)], say)
        except pytest.skip.Exception as missing:
            say(f"{given.cloud}: NOT RUN: {missing}")
            return 1
        add(total, made)
        say(f"so far: {total}")
        shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    say(f"{given.cloud}: {total}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
