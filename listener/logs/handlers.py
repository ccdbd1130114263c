"""Destinations of log lines: standard error, or a file that rotates.

One write(2) writes a line, or a few lines held together, so several workers can share a
destination.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import select
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_STDERR: Final = 2
_PATIENCE: Final = 100
"""Milliseconds to wait for a console that does not accept data; then the handler drops the line,
because the service must continue."""

_HOLD: Final = select.PIPE_BUF
"""Most bytes of lines to write together. A pipe writes this many atomically."""

_MOST_HELD: Final = 64
"""Most records to hold together."""

Held = tuple[float, str, str, Mapping[str, Any]]
"""A record at INFO: its Unix time, its logger, its message and its extras."""

_LOOK: Final = 65_536
"""Bytes after which the handler checks the file again, because another process may have rotated it."""


class LineHandler(logging.Handler):
    """Writes whole lines somewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[Held] = []
        self._hold_limit = _HOLD

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._release()
            self.put(encode(self.format(record)), record.created)
        except Exception:  # noqa: BLE001 - an unwritable record must not stop a mail
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say in this handler's own format that a record could not be written."""
        self._tell_unwritable(record.name, sys.exception())

    def _tell_unwritable(self, name: str, error: BaseException | None) -> None:
        self.complain(name, f"a log record could not be written: {type(error).__name__}: {error}")

    def complain(self, name: str, text: str) -> None:
        """Write an error of the logs themselves to standard error, in this handler's own format."""
        made = logging.makeLogRecord(
            {"name": name, "levelno": logging.ERROR, "levelname": "ERROR", "msg": text}
        )
        with suppress(Exception):
            write_line(_STDERR, encode(self.format(made)))

    def hold(self, held: Held) -> None:
        """Hold one record for the next `flush` or other line: many lines cost one write, and less each,
        because they are made one after the other. The caller holds the lock, and the formatter has a method
        `line`."""
        self._held.append(held)
        if len(self._held) >= _MOST_HELD:
            self._release()

    def flush(self) -> None:
        """Write the held lines."""
        if self._held:
            with self.lock:  # type: ignore[union-attr]  # made by Handler.__init__
                self._release()

    def close(self) -> None:
        self.flush()
        super().close()

    def _release(self) -> None:
        if not self._held:
            return
        held, self._held = self._held, []
        lines: list[bytes] = []
        size, at = 0, 0.0
        for record in held:
            try:
                text = self.formatter.line(*record) + "\n"  # type: ignore[union-attr]  # `hold` asks for it
                line = text.encode("utf-8", "backslashreplace")
            except Exception as error:  # noqa: BLE001 - an unwritable record must not stop a mail
                self._tell_unwritable(record[1], error)
                continue
            if size + len(line) > self._hold_limit and lines:
                self.put(b"".join(lines), at)
                lines.clear()
                size = 0
            lines.append(line)
            size += len(line)
            at = record[0]
        if lines:
            self.put(b"".join(lines), at)

    def put(self, line: bytes, created: float) -> None:
        """Write one or more lines, with their ends, that were logged at this Unix time."""
        raise NotImplementedError


class ConsoleHandler(LineHandler):
    """Writes to standard error. (The reference used standard output; here that is for results.)"""

    def put(self, line: bytes, created: float) -> None:
        with suppress(OSError):  # the reader is gone
            write_line(_STDERR, line)


_NUMBER: Final = r"(?!(?:19|20)[0-9]{6}$)[1-9][0-9]{0,7}"
"""A number that a rotation gave: no leading zero, and no date (20260102) that another program wrote."""


class RotatingHandler(LineHandler):
    """Appends to a file. Before the file exceeds `limit` bytes (0: never), the handler appends the next
    free number to its name, removes rotated files beyond the newest `keep` (None: none) and begins a new
    file. Raises OSError when the file cannot be opened.

    Processes that share the file detect rotations by each other, and by other programs, from the inode:
    at once when the file is full, else every 64 KiB or after a second.
    """

    _fd = -1  # also without an open file, because logging closes every handler at the end

    def __init__(self, path: Path, limit: int, keep: int | None = None) -> None:
        super().__init__()
        self._keep = keep
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
        """Once per failure, on standard error, because a full disk must not flood the console too."""
        if not self._failing and self._fd >= 0:
            self._failing = True
            self.complain("smtp_relay.logs", f"cannot log to {self._path}: {error.strerror}")

    def _look(self, coming: int) -> None:
        """Follow or make a rotation, and compute how many bytes may follow until the next check."""
        if not self._current():
            self._reopen()
        size = os.fstat(self._fd).st_size
        if self._limit and size and size + coming > self._limit:
            self._rotate(coming)
            size = os.fstat(self._fd).st_size
        self._room = max(coming, min(_LOOK, self._limit - size) if self._limit else _LOOK)

    def _rotate(self, coming: int) -> None:
        # A new descriptor, because forked processes share the parent's descriptors and their locks.
        lock = self._open(self._path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held = os.fstat(lock)
            found = os.stat(self._path)  # noqa: PTH116
            ours = (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)
            if ours and held.st_size + coming > self._limit:
                numbers = self._numbers()
                number = max(numbers, default=0) + 1
                while os.path.lexists(f"{self._path}.{number}"):
                    number += 1
                os.rename(self._path, f"{self._path}.{number}")  # noqa: PTH104
                self._remove_old([*numbers, number])
            self._reopen()
        finally:
            os.close(lock)

    def _numbers(self) -> list[int]:
        """Numbers of the rotated files, as far as they are files and ours."""
        folder, name = os.path.split(self._path)
        pattern = re.compile(re.escape(name) + rf"\.({_NUMBER})")
        with os.scandir(folder) as entries:
            return [
                int(found[1])
                for entry in entries
                if (found := pattern.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)
            ]

    def _remove_old(self, numbers: list[int]) -> None:
        if self._keep is not None:
            for number in sorted(numbers)[: -self._keep]:
                with suppress(OSError):
                    os.unlink(f"{self._path}.{number}")  # noqa: PTH108

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
    """The line in UTF-8, with its end."""
    return (line + "\n").encode("utf-8", "backslashreplace")


def write_line(fd: int, line: bytes) -> None:
    """Write the whole line, in one call if the destination accepts it. Raises OSError."""
    try:
        written = os.write(fd, line)
    except BlockingIOError:
        written = 0
    while written < len(line):
        # The pipe is non-blocking and full.
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        if not poll.poll(_PATIENCE):
            return
        with suppress(BlockingIOError):
            written += os.write(fd, line[written:])
