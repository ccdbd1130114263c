"""Small file systems to fill up and to make read-only (tmpfs; root only)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, *, leave: int = 0) -> None:
        """Use up its space but for `leave` octets."""
        free = shutil.disk_usage(self.path).free
        with (self.path / ".filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while free > leave:
                free -= filler.write(b"\0" * min(free - leave, 65_536))

    def relieve(self) -> None:
        """Give the space back."""
        (self.path / ".filler").unlink()

    def read_only(self, on: bool) -> None:
        """Refuse writes, or accept them again. EBUSY while a file is open for writing."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", self.path], check=True)


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Disk]:
    """A file system of so many megabytes at `path`. Skips the test where mounting is not allowed."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False)
