"""A file for the received header of one mail, used if memory has no room for it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from listener.intake.captures import ArrivingMail, Captures


class HeadFile:
    """The header file of a mail that `captures` counts. Until the header is complete, it holds the start
    of the mail."""

    __slots__ = ("_captures", "_mail", "_path", "_size")

    def __init__(self, path: Path, captures: Captures, mail: ArrivingMail) -> None:
        self._path = path
        self._captures = captures
        self._mail = mail
        self._size = 0

    def append(self, data: bytes) -> bool:
        """Add data; False if the disk has no room for it."""
        self._captures.write(self._mail, len(data))
        if self._mail.failure is not None:
            return False
        how = os.O_APPEND if self._size else os.O_TRUNC
        self._size += len(data)
        try:
            fd = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | how, 0o600)
        except OSError:
            return False
        try:
            return self._captures.write_to(fd, data, self._mail)
        finally:
            os.close(fd)

    def read(self) -> bytes:
        """All of it. Raises OSError."""
        return self._path.read_bytes()

    def remove(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._captures.write(self._mail, -self._size)
