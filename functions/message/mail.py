"""The mail: an RFC 5321 mail object, envelope and content, parsed lazily and once."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from functions.errors import Damaged, Temporary
from functions.message.envelope import Envelope
from functions.message.headers import head_size, separator

CHUNK: Final = 262_144

_FIRST_LINE: Final = 1_100  # bytes that tell whether a mail has a header

MAX_HEAD: Final = 8_388_608
"""Most bytes of a header block; accepted ones are far smaller."""


class Content(Protocol):
    """The stored mail below the envelope field: the relay's fields, then the mail as received.

    `path` is the file that holds exactly these bytes, if any (callers may hard-link it, but never write
    it).
    """

    size: int
    path: Path | None

    def read(self) -> bytes: ...

    def open(self) -> BinaryIO: ...


class BytesContent:
    """Content in memory."""

    __slots__ = ("data", "path", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.path: Path | None = None

    def read(self) -> bytes:
        return self.data

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


class FileContent:
    """Content in a file that never changes."""

    __slots__ = ("path", "size")

    def __init__(self, path: Path, size: int) -> None:
        self.path: Path | None = path
        self.size = size

    def read(self) -> bytes:
        assert self.path is not None
        return self.path.read_bytes()

    def open(self) -> BinaryIO:
        assert self.path is not None
        return self.path.open("rb")


def is_whole(envelope: Envelope, content: Content) -> bool:
    """True if stored content is the mail that was accepted: of the envelope's size, and of its sha256
    if the envelope has one. Reads all of it, a piece at a time. Raises OSError."""
    size, digest = 0, hashlib.sha256()
    with content.open() as stream:
        while size <= envelope.size and (piece := stream.read(CHUNK)):
            size += len(piece)
            digest.update(piece)
    return size == envelope.size and envelope.sha256.lower() in ("", digest.hexdigest())


class CheckedContent:
    """Stored content that is compared with its envelope. Reading damaged content to its end raises
    Damaged before the last bytes are returned, and so does every later reading."""

    __slots__ = ("_content", "_envelope", "_how", "_whole", "path", "size")

    def __init__(self, envelope: Envelope, content: Content) -> None:
        self._envelope = envelope
        self._content = content
        self._how: str | None = None
        self._whole = False
        self.size = content.size
        self.path = content.path

    def check(self, *, read: bool) -> None:
        """Raises Damaged if the content is not the accepted mail, by its size, and with `read` by its
        hash. Raises Temporary if the content cannot be read now."""
        if self._how is not None:
            raise Damaged(self._how)
        try:
            # Content in memory was read once, and does not change any more.
            if self.path is not None and os.stat(self.path).st_size != self._envelope.size:  # noqa: PTH116
                self.damaged()
            if read and not self._whole:
                if not is_whole(self._envelope, self._content):
                    self.damaged()
                self._whole = self.path is None
        except FileNotFoundError:
            self.damaged("its file is gone")
        except OSError as error:
            raise Temporary(f"the stored mail cannot be read: {error.strerror or error}") from error

    def damaged(self, how: str = "") -> None:
        """Records that the content is damaged. Raises Damaged."""
        self._how = how
        self.path = None
        raise Damaged(how)

    def read(self) -> bytes:
        with self.open() as stream:
            return stream.read()

    def open(self) -> BinaryIO:
        if self.path is None:
            self.check(read=True)
            return self._content.open()
        file = self.path.open("rb", buffering=0)
        if os.fstat(file.fileno()).st_size != self._envelope.size:
            file.close()
            self.damaged()
        return io.BufferedReader(_CheckedFile(self, file, self._envelope), CHUNK)


class SeekableFile(io.RawIOBase):
    """The part of a seekable stream that reads from a file, whatever it makes of it: subclasses seek and
    read. Closing it closes the file."""

    def __init__(self, file: BinaryIO | io.FileIO) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


class _CheckedFile(SeekableFile):
    """A file that is hashed while it is read from start to end."""

    _file: io.FileIO

    def __init__(self, content: CheckedContent, file: io.FileIO, envelope: Envelope) -> None:
        super().__init__(file)
        self._content = content
        self._envelope = envelope
        self._hashed = 0
        self._digest = hashlib.sha256()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = self._file.seek(offset, whence)
        if self._at == 0:
            self._hashed, self._digest = 0, hashlib.sha256()
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        count = self._file.readinto(buffer) or 0
        if len(buffer):
            self._take(memoryview(buffer)[:count])
        return count

    def readall(self) -> bytes:
        data = self._file.readall()
        self._take(memoryview(data))
        return data

    def _take(self, piece: memoryview) -> None:
        if self._at == self._hashed:
            self._digest.update(piece)
            self._hashed += len(piece)
        self._at += len(piece)
        size, told = self._envelope.size, self._envelope.sha256.lower()
        if self._at > size or (not piece and self._at < size):
            self._content.damaged()  # its size changed since it was opened
        if self._at == self._hashed == size and told not in ("", self._digest.hexdigest()):
            self._content.damaged()


class Mail:
    """One accepted mail, as the outputs see it: `content` is checked while it is read.

    `received_here` says that this process took it in and has not read it back since: what is in memory
    needs no check then, and a file none that would read it for that alone; and no output was tried twice.
    `stored` is the content as it lies there.
    """

    def __init__(self, envelope: Envelope, content: Content, *, received_here: bool = False) -> None:
        self.envelope = envelope
        self.stored = content
        self.content: Content = content
        self._checked: CheckedContent | None = None
        self.received_here = received_here
        if content.path is not None or not received_here:
            self.content = self._checked = CheckedContent(envelope, content)

    @property
    def id(self) -> str:
        return self.envelope.id

    def check(self, *, read: bool = False) -> None:
        """The delivery calls this before an output runs. Raises Damaged if the content is not the
        accepted mail, and Temporary if that cannot be checked now. Without `read`, only the size of a
        mail that this process received is checked."""
        if self._checked is not None:
            self._checked.check(read=read or not self.received_here)

    def flow_fields(self, flow: str) -> bytes:
        """The fields that this flow's filters prepend at delivery, as bytes ending in CRLF; b"" if
        there are none. They include Authentication-Results (docs/mail-auth.md). An empty line follows
        them if the stored mail has no header, because a reader would otherwise take its body for
        one."""
        notes = self.envelope.notes.get(flow)
        if notes is None or not notes.headers:
            return b""
        fields = "".join([f"{name}: {value}\r\n" for name, value in notes.headers]).encode()
        content = self.content
        if isinstance(content, BytesContent):
            start = content.data[:_FIRST_LINE]
        else:
            with content.open() as stream:
                start = stream.read(_FIRST_LINE)
        return fields + separator(start[: head_size(start)], start)

    def chunks(self, flow: str) -> Iterator[bytes]:
        """The mail that one flow's outputs store or send, in pieces of at most CHUNK bytes."""
        fields = self.flow_fields(flow)
        if fields:
            yield fields
        with self.content.open() as stream:
            while piece := stream.read(CHUNK):
                yield piece

    def raw(self, flow: str) -> bytes:
        """The mail that one flow's outputs store or send, whole."""
        fields = self.flow_fields(flow) if self.envelope.notes else b""
        return fields + self.content.read() if fields else self.content.read()

    @cached_property
    def head(self) -> bytes:
        """The first MAX_HEAD bytes of the stored mail's header block, without its final empty line."""
        with self.content.open() as stream:
            start = stream.read(CHUNK)
            if head_size(start) == len(start) == CHUNK:
                start += stream.read(MAX_HEAD - CHUNK)
        return start[: head_size(start)]
