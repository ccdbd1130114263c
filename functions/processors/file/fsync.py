"""Makes files and folders durable: fsync(2), and on macOS F_FULLFSYNC, because fsync leaves the data in the
disk's cache there."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

_FULL: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
_HAS_FDATASYNC: Final = hasattr(os, "fdatasync")  # macOS has none
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY})


def sync_fd(fd: int) -> None:
    """Make an open file or folder durable. Raises OSError."""
    if not _synced_fully(fd):
        os.fsync(fd)


def sync_data(fd: int) -> None:
    """Make an open file's content and size durable. Raises OSError."""
    if _synced_fully(fd):
        return
    if _HAS_FDATASYNC:
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def _synced_fully(fd: int) -> bool:
    """True if the system has F_FULLFSYNC, and the file system too."""
    if _FULL is None:
        return False
    try:
        fcntl.fcntl(fd, _FULL)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


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
        sync_fd(fd)
    finally:
        os.close(fd)
