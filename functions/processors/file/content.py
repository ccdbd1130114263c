"""The bytes of a mail's file: the stored mail, below the fields that the output puts on top."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from functions.message.mail import CHUNK, Mail
from functions.processors.file.owned import Describer, OwnedFile, witness_of
from functions.processors.raw_headers import counted_block, on_top, without_ours

_SMALL: Final = 1_048_576  # largest mail, in bytes, that is written with one call


class FileBytes:
    """The bytes that one flow's output stores of a mail. With `raw_headers` a counted block comes first,
    and fields of its names are left out below it. With a `describer` the file that was written last is
    known as `owned`."""

    __slots__ = ("_describer", "_flow", "_raw_headers", "_size", "_witness", "mail")

    def __init__(
        self, mail: Mail, flow: str, *, raw_headers: bool, describer: Describer | None = None
    ) -> None:
        self.mail = mail
        self._flow = flow
        self._raw_headers = raw_headers
        self._size = -1
        self._describer = describer
        self._witness = ""

    @property
    def as_spooled(self) -> bool:
        """True if these are exactly the bytes of the spool's own file."""
        return not self._raw_headers and not self.mail.flow_fields(self._flow)

    @property
    def size(self) -> int:
        """The number of bytes."""
        if self._size < 0:
            self._start()
        return self._size

    def owned(self, placed: str) -> OwnedFile | None:
        """The file that these bytes are in, placed as `placed`; None if that is not known."""
        if self._describer is None or not self._witness:
            return None
        return self._describer.describe(placed, self._witness)

    def is_in(self, file: int | str) -> None:
        """This file, or open file, has all of the bytes."""
        if self._describer is not None:
            self._witness = witness_of(os.stat(file))  # noqa: PTH116

    def write(self, fd: int) -> None:
        """Write all of it into a file that is at its start. Raises OSError, and Damaged for a mail that
        is not whole."""
        self._write(fd)
        if self._describer is not None:
            self.is_in(fd)

    def _write(self, fd: int) -> None:
        top, skipped = self._start()
        content = self.mail.content
        if content.size <= _SMALL:
            body = content.read()
            write_all(fd, top + body[skipped:] if top or skipped else body)
            return
        write_all(fd, top)
        with content.open() as stream:
            stream.read(skipped)
            while piece := stream.read(CHUNK):
                write_all(fd, piece)

    def write_checked(self, fd: int) -> bool:
        """The same from the spool's copy as it lies there; True if that has the mail's size and hash."""
        top, skipped = self._start()
        write_all(fd, top)
        whole = self.is_whole(fd, skipped)
        if whole:
            self.is_in(fd)
        return whole

    def is_whole(self, fd: int = -1, skipped: int = 0) -> bool:
        """True if the spool's copy has the mail's size and hash. On the way its bytes, except the
        first `skipped` ones, are written into `fd`."""
        envelope = self.mail.envelope
        digest, size = hashlib.sha256(), 0
        with self.mail.stored.open() as stream:
            while piece := stream.read(CHUNK):
                digest.update(piece)
                size += len(piece)
                if fd >= 0:
                    write_all(fd, piece[skipped:])
                    skipped = max(0, skipped - len(piece))
        return size == envelope.size and envelope.sha256 in ("", digest.hexdigest())

    def _start(self) -> tuple[bytes, int]:
        """The bytes on top, and the number of the stored mail's bytes that they replace."""
        mail = self.mail
        if not self._raw_headers:
            top, skipped = mail.flow_fields(self._flow), 0
        else:
            block = counted_block(mail, self._flow)
            below = on_top(mail, self._flow, block)[len(block) :]
            top, skipped, head = block + without_ours(below), 0, mail.head
            if (kept := without_ours(head)) is not head:
                top, skipped = top + kept, len(head)
        self._size = len(top) + mail.envelope.size - skipped
        return top, skipped


def write_all(fd: int, piece: bytes) -> None:
    """Write all bytes. Raises OSError."""
    written = os.write(fd, piece) if piece else 0
    while written < len(piece):
        written += os.write(fd, memoryview(piece)[written:])
