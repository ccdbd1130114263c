"""A mail's bytes as DATA sends them: only CRLF lines, dots doubled (RFC 5321 section 4.5.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

CRLF: Final = b"\r\n"


def crlf_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in lines that end in CRLF, the last one too. A bare LF becomes CRLF and a bare CR a
    space, so all servers agree on line ends. No piece is empty or ends inside a CRLF."""
    held = b""
    ended = True
    for chunk in chunks:
        piece = held + chunk if held else chunk
        held = b""
        if piece.endswith(b"\r"):
            piece, held = piece[:-1], b"\r"
        if not piece:
            continue
        if not _clean(piece):
            piece = piece.replace(CRLF, b"\n").replace(b"\r", b" ").replace(b"\n", CRLF)
        ended = piece.endswith(CRLF)
        yield piece
    if held:
        yield b" \r\n"
    elif not ended:
        yield CRLF


def stuffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes with a dot before each line that starts with one, wherever the pieces are cut. The last
    line ends in CRLF, so the final dot stands on its own line."""
    tail = CRLF
    empty = True
    for chunk in filter(None, chunks):
        if tail == CRLF and chunk.startswith(b"."):
            yield b"."
        elif tail.endswith(b"\r") and chunk.startswith(b"\n."):
            yield b"\n."
            chunk = chunk[1:]  # noqa: PLW2901
        yield chunk.replace(b"\r\n.", b"\r\n..")
        tail = (tail + chunk[-2:])[-2:]
        empty = False
    if not empty and tail != CRLF:
        yield CRLF


def skipped(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes without the first `size`."""
    for chunk in chunks:
        if size >= len(chunk):
            size -= len(chunk)
            continue
        yield chunk[size:] if size else chunk
        size = 0


def _clean(piece: bytes) -> bool:
    """True if every CR and LF is part of a CRLF."""
    pairs = piece.count(CRLF)
    return piece.count(b"\n") == pairs and piece.count(b"\r") == pairs
