"""Tells when something happens in folders: Linux's inotify(7).

It is not everywhere (macOS), and changes that another computer makes do not show. So a look at the folders
now and then must find what this does not tell.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_CLOSE_WRITE: Final = 0x8
_NAMES: Final = 0x40 | 0x80 | 0x100 | 0x200  # moved from, moved to, created, deleted
_OVERFLOW: Final = 0x4000
_IGNORED: Final = 0x8000
_ONLY_FOLDERS: Final = 0x01000000
_EVENT: Final = struct.Struct("iIII")
_READ: Final = 262_144
_MOST: Final = 65_536
"""Folders that are watched; of more, the others are only looked at."""


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        if fd >= 0:
            os.close(fd)


class FolderWatch:
    """Watches folders, as far as the system can. For one thread, but `wake` is for any."""

    def __init__(self) -> None:
        self._libc = _libc()
        self._fd = -1 if self._libc is None else self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._folders: dict[int, Path] = {}
        self._numbers: dict[Path, int] = {}
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        # The system has few of these for each user, so one that is forgotten must not stay open.
        self._close = weakref.finalize(self, _close_all, [self._fd, self._woken, self._waker])
        self.written: set[Path] = set()
        """Files that were written to, since this was emptied."""
        self.overflowed = False
        """True if events were lost, until this is set to False."""

    @property
    def works(self) -> bool:
        """True if this system tells of changes."""
        return self._fd >= 0

    def follow(self, folders: Iterable[Path]) -> None:
        """Watch these folders, and no others. One that cannot be watched is left out."""
        if self._fd < 0 or self._libc is None:
            return
        wanted = set(folders)
        for path in self._numbers.keys() - wanted:
            self._libc.inotify_rm_watch(self._fd, self._numbers[path])
            self._forget(self._numbers[path])
        for path in wanted - self._numbers.keys():
            if len(self._numbers) >= _MOST:
                return
            flags = _CLOSE_WRITE | _NAMES | _ONLY_FOLDERS
            number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), flags)
            if number >= 0:
                self._folders[number], self._numbers[path] = path, number
            elif ctypes.get_errno() == errno.ENOSPC:
                return  # max_user_watches

    def wait(self, seconds: float) -> bool:
        """Wait until something happens in a folder, `wake` is called or time is up; True for the first."""
        here = [self._woken, *([self._fd] if self._fd >= 0 else [])]
        ready = select.select(here, [], [], max(seconds, 0))[0]
        if self._woken in ready:
            os.read(self._woken, 4_096)
        return self._fd in ready and self._read()

    def wake(self) -> None:
        """End a wait."""
        try:
            os.write(self._waker, b"\0")
        except (BlockingIOError, OSError):
            return  # it is awake, or closed

    def close(self) -> None:
        """End all watching."""
        self._close()
        self._fd = self._woken = self._waker = -1

    def _read(self) -> bool:
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return False
        happened, at = False, 0
        while at < len(data):
            number, what, _, size = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + size].rstrip(b"\0")
            at += _EVENT.size + size
            if what & _OVERFLOW:
                self.overflowed = happened = True
            elif what & _IGNORED:
                self._forget(number)
                happened = True
            elif number in self._folders and not name.startswith(b"."):
                happened = True
                if what & _CLOSE_WRITE:
                    self.written.add(self._folders[number] / os.fsdecode(name))
        return happened

    def _forget(self, number: int) -> None:
        path = self._folders.pop(number, None)
        if path is not None and self._numbers.get(path) == number:
            del self._numbers[path]


def _libc() -> Any:
    try:
        found = ctypes.CDLL(None, use_errno=True)
        found.inotify_init1.argtypes = (ctypes.c_int,)
        found.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        found.inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)
    except (AttributeError, OSError):
        return None
    return found
