"""The mode of the files that outputs place."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from functions.processors.file.placed import FILE_MODE


def make_readable(path: str) -> None:
    """Give the spool's own file the mode of other files."""
    file, mode = Path(path), FILE_MODE & ~_umask
    if stat.S_IMODE(file.stat().st_mode) != mode:
        file.chmod(mode)


def _read_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


_umask: Final = _read_umask()  # at import, when no other thread creates files
