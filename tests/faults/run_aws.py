"""The campaign against a local AWS: `python -m tests.faults.run_aws --rounds 50 --mails 5000`."""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import tempfile
from pathlib import Path

from tests.faults.aws_campaign import episode
from tests.faults.campaign import Summary
from tests.faults.run import EPISODE, add, say
from tests.support.ministack import Ministack


def main() -> int:
    """Run until both numbers are reached; prints the seed, each round and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--mails", type=int, default=5_000)
    parser.add_argument("--seed", default=os.urandom(4).hex(), help="to repeat a campaign")
    given = parser.parse_args()
    say(f"seed {given.seed}")
    total = Summary()
    a_round = -(-given.mails // given.rounds)
    folder = Path(tempfile.mkdtemp(prefix="faults-aws-"))
    for number in itertools.count():
        if total.rounds >= given.rounds and total.found.mails >= given.mails:
            break
        rounds = max(1, min(EPISODE, given.rounds - total.rounds))
        aws = Ministack(folder / f"{number}" / "aws")
        try:
            made = episode(
                aws.start(), folder / f"{number}" / "site", rounds, a_round, f"{given.seed}-{number}", say
            )
        finally:
            aws.stop()
        add(total, made)
        say(f"so far: {total}")
        shutil.rmtree(folder / f"{number}", ignore_errors=True)
    say(str(total))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
