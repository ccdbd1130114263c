"""The version before this one, whose code tests run beside this one's.

Its tree comes out of the history. A source archive and a shallow clone have none: there the version before
is this one, so that each test still rolls from one deployment to another, and the stored recordings
(`tests.support.golden.recording`) alone stand for what the earlier code wrote.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.servers.relay import ROOT

REVISION: Final = "98454e7723f68700026f081c88fa359cb8ebf5c5"
"""The version before: the last commit that was released before the ones that changed deployments."""

_PARTS: Final = ("functions", "listener", "infra", "locks", "configs", "pyproject.toml")
"""What its halves, and the bundles of its functions, are made of."""

_PLACE: Final = ROOT / ".state" / "earlier"


@dataclass(frozen=True, slots=True)
class Version:
    """One version's code. `root` is the folder that holds `functions/`, `listener/` and `infra/`."""

    name: str
    root: Path

    def run(self, *command: object) -> str:
        """Run `python -m COMMAND…` with this version's code, and return its output. Raises
        CalledProcessError."""
        done = subprocess.run(
            [sys.executable, "-m", *map(str, command)],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout


THIS: Final = Version("this", ROOT)


def before() -> Version:
    """The version before; this one where the history does not hold it."""
    folder = _PLACE / REVISION[:12]
    if not folder.exists():
        content = _archived(_PARTS)
        if content is None:
            return THIS
        _PLACE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_PLACE) as made:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                archive.extractall(made, filter="data")
            # Another process of the tests may be first, with the same content.
            if not folder.exists():
                Path(made).rename(folder)
                Path(made).mkdir()
    return Version("before", folder)


def _archived(parts: Sequence[str]) -> bytes | None:
    """A tar of these parts of the revision; None without git, or without the revision."""
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", REVISION, "--", *parts]
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
