"""Where log lines go: standard error, or a file that rotates.

A line, or a few that were held for one another, is one write(2), so that several workers can share
a destination.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import select
from contextlib import suppress
from pathlib import Path
from typing import Final

_STDERR: Final = 2
_PATIENCE: Final = 100
"""Milliseconds to wait for a console that takes no more; then the line is dropped, not the service."""

_HOLD: Final = select.PIPE_BUF
"""Octets of lines that may wait for one another. What a pipe takes at once stays together there, too."""

_LOOK: Final = 65_536
"""Octets after which a file is looked at again: another process may have rotated it."""


class LineHandler(logging.Handler):
    """Writes whole lines somewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._held_size = 0
        self._held_at = 0.0
        self._hold_limit = _HOLD

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._release()
            self.put(encode(self.format(record)), record.created)
        except Exception:  # noqa: BLE001 - a record that cannot be written stops nobody's mail
            self.handleError(record)

    def hold(self, line: bytes, created: float) -> None:
        """Write one line as `put` does, by the next `flush` or other line: many that come at once
        cost one write. The caller holds the lock."""
        size = len(line)
        if self._held_size + size > self._hold_limit:
            self._release()
        self._held.append(line)
        self._held_size += size
        self._held_at = created

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            with self.lock:  # type: ignore[union-attr]  # made by Handler.__init__
                self._release()

    def close(self) -> None:
        self.flush()
        super().close()

    def _release(self) -> None:
        if self._held:
            lines = b"".join(self._held)
            self._held.clear()
            self._held_size = 0
            self.put(lines, self._held_at)

    def put(self, line: bytes, created: float) -> None:
        """Write a line, its end included, that was logged at this Unix time; or a few of them."""
        raise NotImplementedError


class ConsoleHandler(LineHandler):
    """Writes to standard error (the reference used standard output; ours is for results)."""

    def put(self, line: bytes, created: float) -> None:
        with suppress(OSError):  # nobody reads any more
            write_line(_STDERR, line)


class RotatingHandler(LineHandler):
    """Appends to a file; one that would grow past `limit` octets (0: never) is renamed, with the
    next free number at its end, and a new one begun. Raises OSError when the file cannot be
    opened.

    Processes that share the file find each other's rotations, and an outside program's, by the
    inode: at once when the file is full, else every 64 KiB or when a second has passed.
    """

    _fd = -1  # of one whose file could not be opened: logging closes it at the end all the same

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__()
        self._path = os.fspath(path.absolute())
        self._limit = limit
        if limit:
            self._hold_limit = min(_HOLD, limit)
        self._fd = self._open(self._path)
        self._room = 0
        self._second = 0
        self._failing = False

    def put(self, line: bytes, created: float) -> None:
        second = int(created)
        try:
            if len(line) > self._room or second != self._second:
                self._second = second
                self._look(len(line))
            self._room -= len(line)
            write_line(self._fd, line)
            self._failing = False
        except OSError as error:
            self._complain(error)

    def close(self) -> None:
        self.flush()
        self.acquire()
        try:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
        finally:
            self.release()
        super().close()

    def _complain(self, error: OSError) -> None:
        """Once per failure, on standard error: a full disk must not fill the console too."""
        if not self._failing and self._fd >= 0:
            self._failing = True
            with suppress(OSError):
                write_line(_STDERR, encode(f"smtp-relay: cannot log to {self._path}: {error.strerror}"))

    def _look(self, coming: int) -> None:
        """Follow or make a rotation, and see how much may be written until the next look."""
        if not self._current():
            self._reopen()
        size = os.fstat(self._fd).st_size
        if self._limit and size and size + coming > self._limit:
            self._rotate(coming)
            size = os.fstat(self._fd).st_size
        self._room = max(coming, min(_LOOK, self._limit - size) if self._limit else _LOOK)

    def _rotate(self, coming: int) -> None:
        # A descriptor of its own: processes forked from one parent share the others', and with
        # them the lock.
        lock = self._open(self._path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held = os.fstat(lock)
            found = os.stat(self._path)  # noqa: PTH116
            ours = (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)
            if ours and held.st_size + coming > self._limit:
                os.rename(self._path, f"{self._path}.{self._next_number()}")  # noqa: PTH104
            self._reopen()
        finally:
            os.close(lock)

    def _next_number(self) -> int:
        folder, name = os.path.split(self._path)
        pattern = re.compile(re.escape(name) + r"\.([0-9]{1,9})")
        with os.scandir(folder) as entries:
            numbers = [int(found[1]) for entry in entries if (found := pattern.fullmatch(entry.name))]
        return max(numbers, default=0) + 1

    def _current(self) -> bool:
        try:
            found = os.stat(self._path)  # noqa: PTH116
        except FileNotFoundError:
            return False
        held = os.fstat(self._fd)
        return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)

    def _reopen(self) -> None:
        fd = self._open(self._path)
        os.close(self._fd)
        self._fd = fd

    @staticmethod
    def _open(path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def encode(line: str) -> bytes:
    """The line in UTF-8, its end added."""
    return (line + "\n").encode("utf-8", "backslashreplace")


def write_line(fd: int, line: bytes) -> None:
    """All of the line, in one call unless the other side takes less. Raises OSError."""
    try:
        written = os.write(fd, line)
    except BlockingIOError:
        written = 0
    while written < len(line):
        # A pipe that somebody made non-blocking and that is full.
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        if not poll.poll(_PATIENCE):
            return
        with suppress(BlockingIOError):
            written += os.write(fd, line[written:])
