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

from functions.message.headers import head_size, split_head
from functions.message.mail import BytesContent, Content, FileContent
from listener.api.decision import Reply
from listener.intake.captures import ArrivingMail, Captures

IN_MEMORY: Final = 65_536
"""Most bytes to keep in memory. A larger mail goes to a file, because measurements show that a copy in
SQLite costs more."""

TOO_BIG: Final = Reply(552, "5.3.4", "Message exceeds the size limit")
HEADER_TOO_BIG: Final = Reply(552, "5.3.4", "The message header is too large")
NO_SPACE: Final = Reply(452, "4.3.1", "Insufficient system storage")

Stamp = Callable[[bytes, bytes], tuple[bytes, bytes]]
"""Maps the received header block and (the start of) the rest to the header to store: what comes on top, and
below it what stays of the received one."""


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


class Capture(ArrivingMail):
    """One mail's bytes, fed in pieces; afterwards the `Message` that data filters see.

    The capture calls `stamp` once, when the header is complete. It sets `failure` when the mail cannot
    be accepted, and then drops the rest, so that memory and disk stay bounded. `captures` bounds the
    memory and disk space of all captures together: if memory is short, and above 64 KiB, the received
    header is in a file of its own.
    """

    __slots__ = (
        "_captures",
        "_digest",
        "_fd",
        "_folder",
        "_head",
        "_look_at",
        "_max_header",
        "_max_size",
        "_name",
        "_parked",
        "_path",
        "_pieces",
        "_stamp",
        "_stored_head",
        "_stored_size",
    )

    def __init__(
        self,
        folder: Path,
        name: str,
        stamp: Stamp,
        *,
        max_size: int,
        max_header: int,
        captures: Captures | None = None,
        crlf: bool = False,
    ) -> None:
        super().__init__(crlf=crlf)
        self._captures = captures or Captures(folder)
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
        self._head = b""
        self._parked: HeadFile | None = None
        """The file of the received header (and the start of the body, before the header is complete)."""
        self._stored_head = 0
        self._stored_size = 0
        self._captures.enter(self)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. Does not raise for a full disk, but sets `failure`."""
        size = len(piece)
        self.size += size
        if self.failure is not None:
            return
        if self.size > self._max_size:
            self.fail(TOO_BIG)
        elif self._fd >= 0:
            self._write(piece)
        else:
            self._pieces.append(piece)
            self._captures.hold(self, size)
            if self.size > self._look_at and self._fd < 0 and self.failure is None:
                self._spill()

    def fail(self, reply: Reply) -> None:
        """Give the mail up: free its memory and file, and drop later bytes."""
        self.failure = self.failure or reply
        self.discard()

    def discard(self) -> None:
        """Free memory and remove the files; safe to call more than once."""
        self._pieces = []
        self._head = b""
        self._close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._path = None
        self.release()

    def release(self) -> None:
        """The mail is answered: stop counting its memory and disk space. Safe to call more than once."""
        if self._parked is not None:
            self._drop_parked()
        self._captures.leave(self)

    def finish(self, *, hashed: bool = True) -> tuple[Content, str]:
        """The stored content and its sha256 in hex, after the last piece; invalid if the call sets
        `failure`. Without `hashed` the hash of a mail in memory is "".

        From here the caller owns the file, if any.
        """
        self.finished = True
        if self._fd < 0:
            stored = self._in_memory()
            if stored is not None:
                return BytesContent(stored), hashlib.sha256(stored).hexdigest() if hashed else ""
        self._close()
        if self._path is None or self._digest is None:
            return BytesContent(b""), ""  # because the disk is full
        return FileContent(self._path, self._stored_size), self._digest.hexdigest()

    def _in_memory(self) -> bytes | None:
        """The stored mail; None if memory has no room for it, and a file has it."""
        data = self._gathered()
        size = head_size(data)
        if size > self._max_header:
            self.fail(HEADER_TOO_BIG)
            return b""
        head = data[:size]
        top, kept = self._stamp(head, data[size : size + 2])
        stored = len(top) + len(kept) + len(data) - size
        if self._parked is not None or not self._captures.keep(self, 2 * len(data), stored):
            self._write_file(head, top + kept, data[size:])
            return None
        self._head = head
        self._pieces = [data]
        return top + data if kept is head else top + kept + data[size:]

    def _gathered(self) -> bytes:
        """All received bytes, while there is no file of the stored mail."""
        if self._parked is not None:
            return b"".join([self._parked.read(), *self._pieces])
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def _spill(self) -> None:
        data = self._gathered()
        if b"\r\n\r\n" not in data and not data.startswith(b"\r\n") and split_head(data)[0]:
            if len(data) > self._max_header:
                self.fail(HEADER_TOO_BIG)
                return
            # Not at each piece, because joining at every few bytes takes quadratic time.
            self._look_at = self.size + IN_MEMORY
            self._park(self._pieces)
            return
        head, body = split_head(data)
        if len(head) > self._max_header:
            self.fail(HEADER_TOO_BIG)
        else:
            top, kept = self._stamp(head, body)
            self._write_file(head, top + kept, body)

    def _write_file(self, head: bytes, stamped: bytes, body: bytes) -> None:
        """Begin the file of the stored mail with the bytes received so far: the header, in its stored form
        `stamped`, and the start of the body."""
        self._pieces = []
        self._drop_parked()
        self._head = head
        self._captures.hold(self, -self.memory)
        path = self._folder / f"{self._name}.eml"
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        except OSError:
            self.fail(NO_SPACE)
            return
        self._path = path
        self._digest = hashlib.sha256()
        self._stored_head = len(stamped)
        self._write(stamped)
        if self.failure is None:
            self._write(body)
        if self.failure is None:
            self._captures.hold(self, len(head))
        if len(head) > IN_MEMORY:
            self.leave_memory()

    def _write(self, piece: bytes) -> None:
        assert self._digest is not None
        self._digest.update(piece)
        self._stored_size += len(piece)
        self._captures.write(self, len(piece))
        if self.failure is None and not self._captures.write_to(self._fd, piece, self):
            self.fail(NO_SPACE)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # The interface that `Captures` uses.

    def give_up(self) -> None:
        """Give the mail up because room is short: free its memory and file; its connection may end."""
        self.ended = True
        self.fail(NO_SPACE)

    def leave_memory(self) -> None:
        """Move the bytes in memory to the disk, as far as possible."""
        if self.failure is not None:
            return
        if self._path is not None:
            if self._head and self._parked is None:
                self._park([self._head])
                self._head = b""
        elif not self.finished:
            data = self._gathered()
            if b"\r\n\r\n" in data or data.startswith(b"\r\n"):
                self._spill()
            else:
                # The first lines may be cut anywhere, so it is not known yet if they are a header.
                self._park(self._pieces)

    def _park(self, pieces: list[bytes]) -> None:
        """Move these bytes to the end of the file of the received header."""
        if self._parked is None:
            self._parked = HeadFile(self._folder / f"{self._name}.head.eml", self._captures, self)
        if self._parked.append(b"".join(pieces)):
            self._pieces = []
            self._captures.hold(self, -self.memory)
        else:
            self.fail(NO_SPACE)

    def _drop_parked(self) -> None:
        if self._parked is not None:
            self._parked.remove()
            self._parked = None

    # The interface for data filters (listener.api.session.Message).

    @property
    def head(self) -> bytes:
        """The received header block, once it is complete."""
        if self._path is not None and self._parked is not None:
            return self._parked.read()
        return self._head

    def open(self) -> BinaryIO:
        """The mail as received, as an open binary stream."""
        if self._path is None:
            return BytesIO(b"".join(self._pieces))
        return _HeadThenFile(self.head, self._path, self._stored_head)

    def content(self) -> bytes:
        """The mail as received, whole."""
        return self._gathered() if self._path is None else b"".join(self.chunks())

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        """The mail as received, in pieces of at most `size` bytes."""
        with self.open() as stream:
            while piece := stream.read(size):
                yield piece


class HeadFile:
    """The received header of one mail in a file, where there is no room for it in memory. `captures` counts
    it; before the header is complete, it has the start of the mail."""

    __slots__ = ("_captures", "_mail", "_path", "_size")

    def __init__(self, path: Path, captures: Captures, mail: ArrivingMail) -> None:
        self._path = path
        self._captures = captures
        self._mail = mail
        self._size = 0

    def append(self, data: bytes) -> bool:
        """Add data; False where the disk has no room for it."""
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
