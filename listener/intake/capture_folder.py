"""A folder of this process for large mails on their way into a bucket.

The mails in it were never answered 250, so they are worthless after the process ends. A lock marks a
running process, and the next start removes the folders of ended ones.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from functions.errors import ConfigError

_PREFIX: Final = "capture-"
_LOCK: Final = "lock"


class CaptureFolder:
    """Makes a folder below `parent`. Raises ConfigError if that fails."""

    def __init__(self, parent: Path) -> None:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            _clear(parent)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = _locked(self.path)
        except OSError as error:
            raise ConfigError(
                f"folder {parent}",
                f"cannot be used for incoming large mails: {error.strerror}",
                "let cachePath be in a writable folder",
            ) from error

    def missing(self, min_free: int) -> int:
        """The number of bytes that its disk lacks to have `min_free` free; 0 or less if it has enough."""
        try:
            room = os.statvfs(self.path)
        except OSError:
            return sys.maxsize
        return min_free - room.f_bavail * room.f_frsize

    def close(self) -> None:
        """Remove it; safe to call more than once."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked(folder: Path) -> int:
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _clear(parent: Path) -> None:
    for old in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = os.open(old / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                os.close(lock)
