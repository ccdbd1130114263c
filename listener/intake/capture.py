"""The mail while it arrives: in memory while small, in a file above 64 KiB.

The file holds the mail in its stored form (the relay's fields, the kept header fields, the body),
so the local spool and the `file` output can take it over by a hard link.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from functions.message.headers import split_head
from functions.message.mail import BytesContent, Content, FileContent
from listener.api.decision import Reply

IN_MEMORY: Final = 65_536
"""Most bytes to keep in memory. A larger mail goes to a file, because measurements show that a copy in
SQLite costs more."""

TOO_BIG: Final = Reply(552, "5.3.4", "Message exceeds the size limit")
HEADER_TOO_BIG: Final = Reply(552, "5.3.4", "The message header is too large")
NO_SPACE: Final = Reply(452, "4.3.1", "Insufficient system storage")

Stamp = Callable[[bytes, bytes], bytes]
"""Maps the received header block and (the start of) the rest to the header to store."""


class _HeadThenFile(BytesIO):
    """The received mail from a captured file: the header from memory, then the body."""

    def __init__(self, head: bytes, path: Path, offset: int) -> None:
        super().__init__(head)
        self._file = path.open("rb")
        self._file.seek(offset)

    def read(self, size: int | None = -1, /) -> bytes:
        first = super().read(size)
        if size is None or size < 0:
            return first + self._file.read()
        return first + self._file.read(size - len(first)) if len(first) < size else first

    def close(self) -> None:
        self._file.close()
        super().close()


class Capture:
    """One mail's bytes, fed in pieces; afterwards the `Message` that data filters see.

    The capture calls `stamp` once, when the header is complete. It sets `failure` if the mail
    cannot be accepted, and then drops the rest, so memory and disk stay bounded.
    """

    __slots__ = (
        "_digest",
        "_fd",
        "_folder",
        "_look_at",
        "_max_header",
        "_max_size",
        "_name",
        "_path",
        "_pieces",
        "_stamp",
        "_stored_head",
        "_stored_size",
        "failure",
        "head",
        "size",
    )

    def __init__(self, folder: Path, name: str, stamp: Stamp, *, max_size: int, max_header: int) -> None:
        self._folder = folder
        self._name = name
        self._stamp = stamp
        self._max_size = max_size
        self._max_header = max_header
        self._pieces: list[bytes] = []
        self._look_at = IN_MEMORY
        self._fd = -1
        self._path: Path | None = None
        self._digest: hashlib._Hash | None = None
        self._stored_head = b""
        self._stored_size = 0
        self.size = 0
        """Size of the received mail in bytes."""
        self.head = b""
        self.failure: Reply | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. Does not raise for a full disk, but sets `failure`."""
        self.size += len(piece)
        if self.failure is not None:
            return
        if self.size > self._max_size:
            self.fail(TOO_BIG)
        elif self._fd >= 0:
            self._write(piece)
        else:
            self._pieces.append(piece)
            if self.size > self._look_at:
                self._spill()

    def fail(self, reply: Reply) -> None:
        """Give the mail up: free its memory and file, and drop later bytes."""
        self.failure = self.failure or reply
        self.discard()

    def discard(self) -> None:
        """Free memory and remove the file; safe to call more than once."""
        self._pieces = []
        self._close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._path = None

    def finish(self) -> tuple[Content, str]:
        """The stored content and its sha256 in hex, after the last piece; invalid if the call sets
        `failure`.

        From here the caller owns the file, if any.
        """
        if self._fd < 0:
            stored = self._in_memory()
            return BytesContent(stored), hashlib.sha256(stored).hexdigest()
        self._close()
        assert self._path is not None
        assert self._digest is not None
        return FileContent(self._path, self._stored_size), self._digest.hexdigest()

    def _in_memory(self) -> bytes:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self.head, body = split_head(data)
        if len(self.head) > self._max_header:
            self.fail(HEADER_TOO_BIG)
            return b""
        self._pieces = [data]
        return self._stamp(self.head, body) + body

    def _spill(self) -> None:
        data = b"".join(self._pieces)
        if b"\r\n\r\n" not in data and not data.startswith(b"\r\n") and split_head(data)[0]:
            # The header stays in memory up to its own limit.
            if len(data) > self._max_header:
                self.fail(HEADER_TOO_BIG)
            else:
                # Not at each piece, because joining at every few bytes takes quadratic time.
                self._look_at = self.size + IN_MEMORY
                self._pieces = [data]
            return
        self.head, body = split_head(data)
        if len(self.head) > self._max_header:
            self.fail(HEADER_TOO_BIG)
            return
        self._pieces = []
        path = self._folder / f"{self._name}.eml"
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        except OSError:
            self.fail(NO_SPACE)
            return
        self._path = path
        self._digest = hashlib.sha256()
        head = self._stamp(self.head, body)
        self._stored_head = head
        self._write(head)
        if self.failure is None:
            self._write(body)

    def _write(self, piece: bytes) -> None:
        assert self._digest is not None
        self._digest.update(piece)
        self._stored_size += len(piece)
        try:
            written = os.write(self._fd, piece)
            while written < len(piece):
                written += os.write(self._fd, memoryview(piece)[written:])
        except OSError:
            self.fail(NO_SPACE)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # The interface for data filters (listener.api.session.Message).

    def open(self) -> BinaryIO:
        """The mail as received, as an open binary stream."""
        if self._path is None:
            return BytesIO(b"".join(self._pieces))
        return _HeadThenFile(self.head, self._path, len(self._stored_head))

    def content(self) -> bytes:
        """The mail as received, whole."""
        with self.open() as stream:
            return stream.read()

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        """The mail as received, in pieces of at most `size` bytes."""
        with self.open() as stream:
            while piece := stream.read(size):
                yield piece
