"""Runs `smtp-relay` without what only Linux has: `python without_linux.py serve …`.

What macOS has in its place is there: F_FULLFSYNC, which writes a line into `$FULL_SYNCS` for each sync.
"""

from __future__ import annotations

import asyncio.selector_events
import builtins
import ctypes
import errno
import fcntl
import importlib
import io
import os
import runpy
import select
import selectors
import signal
import socket
import sys
import time
from typing import Any, Final

MISSING: Final[dict[str, tuple[str, ...]]] = {
    "os": (
        *("copy_file_range", "eventfd", "eventfd_read", "eventfd_write", "fdatasync", "memfd_create"),
        *("pidfd_open", "pipe2", "posix_fadvise", "posix_fallocate", "sched_getaffinity", "splice"),
        *("sched_setaffinity", "setresgid", "setresuid", "getresuid", "getresgid", "preadv", "pwritev"),
        *("O_TMPFILE", "O_PATH", "O_DIRECT", "O_NOATIME", "POSIX_FADV_DONTNEED", "setxattr", "getxattr"),
    ),
    "fcntl": (
        *("F_OFD_GETLK", "F_OFD_SETLK", "F_OFD_SETLKW", "F_SETLEASE", "F_GETLEASE", "F_SETSIG", "F_GETSIG"),
        *("F_NOTIFY", "F_ADD_SEALS", "F_SETPIPE_SZ"),
    ),
    "select": ("epoll",),
    "selectors": ("EpollSelector",),
    "signal": ("pidfd_send_signal", "SIGRTMIN", "SIGRTMAX", "SIGPOLL", "SIGPWR", "SIGSTKFLT"),
    "socket": (
        *("SO_REUSEPORT", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "SO_PEERCRED"),
        *("TCP_DEFER_ACCEPT", "TCP_QUICKACK", "TCP_CORK", "TCP_FASTOPEN", "SO_BINDTODEVICE", "AF_NETLINK"),
    ),
    "time": ("CLOCK_BOOTTIME", "CLOCK_TAI"),
}
"""Names by module; those that this Python lacks, too, are skipped."""

F_FULLFSYNC: Final = 51
_SYMBOLS: Final = frozenset({"renameat2", "syncfs", "memfd_create", "prctl", "malloc_trim"})


class _Library(ctypes.CDLL):
    """The C library of another system."""

    def __getattr__(self, name: str) -> Any:
        if name in _SYMBOLS:
            raise AttributeError(name)
        return super().__getattr__(name)


def _without_proc(module: Any, name: str) -> None:
    """A call that finds nothing below /proc."""
    real = getattr(module, name)

    def call(path: Any, *more: Any, **options: Any) -> Any:
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith("/proc"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", os.fsdecode(path))
        return real(path, *more, **options)

    setattr(module, name, call)


def hide() -> None:
    """Take everything away."""
    assert asyncio.selector_events is not None
    assert (select, selectors, signal, socket, time) is not None
    for name, missing in MISSING.items():
        module = importlib.import_module(name)
        for each in missing:
            if each in vars(module):
                delattr(module, each)
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc]
    ctypes.CDLL = _Library  # type: ignore[misc]
    for module, name in (
        (builtins, "open"),
        (io, "open"),
        (os, "open"),
        (os, "stat"),
        (os, "listdir"),
        (os, "scandir"),
    ):
        _without_proc(module, name)
    real_fcntl, real_ioctl = fcntl.fcntl, fcntl.ioctl

    def control(fd: Any, command: int, argument: Any = 0) -> Any:
        if command != F_FULLFSYNC:
            return real_fcntl(fd, command, argument)
        os.fsync(fd)
        if path := os.environ.get("FULL_SYNCS"):
            log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(log, b"sync\n")
            os.close(log)
        return 0

    def device(fd: Any, request: int, *more: Any) -> Any:
        if request == 0x40049409:  # FICLONE
            raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
        return real_ioctl(fd, request, *more)

    fcntl.fcntl, fcntl.ioctl = control, device
    if os.environ.get("FULL_SYNCS"):
        fcntl.F_FULLFSYNC = F_FULLFSYNC  # type: ignore[attr-defined, misc]
    sys.modules["uvloop"] = None  # type: ignore[assignment]


if __name__ == "__main__":
    hide()
    sys.argv = ["smtp-relay", *sys.argv[1:]]
    runpy.run_module("listener.cli.main", run_name="__main__", alter_sys=True)
