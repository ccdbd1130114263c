"""The whole campaign: `python -m tests.faults.run --rounds 200 --mails 50000`."""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.faults.campaign.episodes import PLANS, Summary, episode, gentle_episode
from tests.faults.campaign.relay_under_test import may_mount

EPISODE = 20  # rounds
LEAST = 5


def main() -> int:
    """Run until both numbers are reached; prints the seed, each round and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--mails", type=int, default=50_000)
    parser.add_argument("--seed", default=os.urandom(4).hex(), help="to repeat a campaign")
    parser.add_argument("--oauth", action="store_true", help="only relays whose next hop takes tokens")
    parser.add_argument("--aws", action="store_true", help="only relays that publish to a local AWS")
    given = parser.parse_args()
    plans = [plan for plan in PLANS if plan.oauth >= given.oauth and plan.aws >= given.aws]
    print(f"seed {given.seed}", flush=True)
    total = Summary()
    a_round = -(-given.mails // given.rounds)
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    for number in itertools.count():
        done, mails = total.rounds, total.found.mails
        if done >= given.rounds and mails >= given.mails:
            break
        plan = plans[number % len(plans)]
        if not may_mount():
            plan = replace(plan, disks=False, thin=False)
        place = folder / str(number)
        rounds = min(EPISODE, max(LEAST, given.rounds - done))
        seed = f"{given.seed}-{number}"
        if number == 0 and plans == list(PLANS):
            made = gentle_episode(place, a_round, seed, say)
        else:
            made = episode(place, plan, rounds, a_round, seed, say)
        add(total, made)
        print(f"so far: {total}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
    print(total, flush=True)
    return 0


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def add(total: Summary, one: Summary) -> None:
    """Sum up."""
    total.rounds += one.rounds
    total.found.add(one.found)
    total.faults.update(one.faults)
    total.struck.update(one.struck)
    total.codes.update(one.codes)
    total.struck.update(one.struck)
    total.seconds += one.seconds


if __name__ == "__main__":
    raise SystemExit(main())
