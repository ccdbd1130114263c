"""Records this version's spool and receipts: `python -m tests.support.golden.record`.

Without a name the recording is called after the version. An existing one is never replaced: it
stays as long as its version must be read (this version and the one before).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from functions import __version__
from tests.support.golden import identities as golden_identities
from tests.support.golden import local as golden_local
from tests.support.golden.aws import recorded_aws
from tests.support.golden.gcp import recorded_gcp
from tests.support.golden.recording import GOLDEN

_NAME: Final = "recorded-" + ".".join(__version__.split(".")[:2])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.golden.record", description=__doc__)
    parser.add_argument("name", nargs="?", default=_NAME, help=f"the recording's folder: {_NAME}")
    folder = GOLDEN / parser.parse_args(arguments).name
    if folder.exists():
        raise SystemExit(f"{folder.name} is there: record under another name, or remove it")
    made = folder.with_name(f".{folder.name}")
    with tempfile.TemporaryDirectory() as work:
        here = Path(work)
        golden_identities.record(made)
        asyncio.run(golden_local.record(made, here / "local"))
        recorded_aws(made, here / "aws", os.environ)
        recorded_gcp(made, here / "gcp", os.environ)
    made.rename(folder)


if __name__ == "__main__":
    main()
