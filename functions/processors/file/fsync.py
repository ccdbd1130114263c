"""fsync(2) of files and folders by their paths."""

from __future__ import annotations

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Make a new file durable, its name included. Raises OSError."""
    sync(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    sync(path, os.O_RDONLY | os.O_DIRECTORY)


def renew_name(path: Path) -> None:
    """Write a file's name into its folder again. Raises OSError."""
    aside = path.with_name(f"{path.name}~")
    path.rename(aside)
    aside.rename(path)


def sync_failed(error: BaseException) -> bool:
    """True if the error is that of the sync itself; an error of opening carries the path."""
    return isinstance(error, OSError) and error.filename is None


def sync(path: Path | str, flags: int = os.O_RDONLY) -> None:
    """Make a file, or the names in a folder, durable; `flags` are those of open(2). Raises OSError."""
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
