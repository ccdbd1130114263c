"""The mail: an RFC 5321 mail object, envelope and content, parsed lazily and once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from functions.message.envelope import Envelope
from functions.message.headers import head_size, separator

CHUNK: Final = 262_144

_FIRST_LINE: Final = 1_100  # bytes that tell whether a mail has a header

MAX_HEAD: Final = 8_388_608
"""Bytes of a header block; what is accepted is far smaller."""


class Content(Protocol):
    """The stored mail below the envelope field: our added fields, then the mail as received.

    `path` is the file that holds exactly these bytes, where there is one (it may be hard-linked,
    never written).
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
    """Content in a file that nobody changes."""

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


class Mail:
    """One accepted mail, as the outputs see it."""

    def __init__(self, envelope: Envelope, content: Content) -> None:
        self.envelope = envelope
        self.content = content

    @property
    def id(self) -> str:
        return self.envelope.id

    def flow_fields(self, flow: str) -> bytes:
        """The fields that this flow's filters prepend at delivery, as bytes ending in CRLF; b""
        for none. Authentication-Results come from here (SPEC section 5). An empty line ends them where
        the stored mail has no header: what it has in its body would else be read as one."""
        notes = self.envelope.notes.get(flow)
        if notes is None or not notes.headers:
            return b""
        fields = b"".join(f"{name}: {value}\r\n".encode() for name, value in notes.headers)
        with self.content.open() as stream:
            start = stream.read(_FIRST_LINE)
        return fields + separator(start[: head_size(start)], start)

    def chunks(self, flow: str) -> Iterator[bytes]:
        """What one flow's outputs store or send, in pieces of at most CHUNK octets."""
        fields = self.flow_fields(flow)
        if fields:
            yield fields
        with self.content.open() as stream:
            while piece := stream.read(CHUNK):
                yield piece

    def raw(self, flow: str) -> bytes:
        """What one flow's outputs store or send, whole."""
        fields = self.flow_fields(flow)
        return fields + self.content.read() if fields else self.content.read()

    @cached_property
    def head(self) -> bytes:
        """The header block of the stored mail, at most MAX_HEAD bytes of it, its final empty line left
        out."""
        with self.content.open() as stream:
            start = stream.read(CHUNK)
            if head_size(start) == len(start) == CHUNK:
                start += stream.read(MAX_HEAD - CHUNK)
        return start[: head_size(start)]
