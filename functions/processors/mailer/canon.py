"""Relaxed canonicalization (RFC 6376 sections 3.4.2 and 3.4.4) on bytes, in linear time.

The mail's lines end in CRLF; a piece never ends within one (`smtp_client.lines.crlf_lines`).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

CRLF: Final = b"\r\n"

_WSP: Final = re.compile(rb"[ \t]+")
_STRIPE: Final = 32_768  # empty lines hashed at once


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """A field in canonical form, without its last CRLF."""
    return name.rstrip(b" \t").lower() + b":" + _WSP.sub(b" ", value.replace(CRLF, b"")).strip(b" ")


class RelaxedBody:
    """The SHA-256 of a body's canonical form, which is hashed piece by piece."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._lines = 0  # line ends that are hashed only if more text comes
        self._blank = False  # white space before them, which may end a line
        self._empty = True

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._blank:
            piece = b" " + piece
        piece = _squeezed(piece)
        self._blank = piece.endswith(b" ")
        if self._blank:
            piece = piece[:-1]
        text = piece.rstrip(CRLF)
        if text:
            self._settle_lines()
            self._hash.update(text)
            self._empty = False
        self._lines += (len(piece) - len(text)) // 2

    def digest(self) -> bytes:
        """The hash of the whole body; `feed` must not be called after it."""
        if not self._empty:
            self._hash.update(CRLF)
        return self._hash.digest()

    def _settle_lines(self) -> None:
        while self._lines:
            count = min(self._lines, _STRIPE)
            self._hash.update(CRLF * count)
            self._lines -= count


def _squeezed(piece: bytes) -> bytes:
    """Runs of white space as one space, none before a CRLF. Each pass halves the runs, so a long run
    costs no more than twice its own length."""
    if b"\t" in piece:
        piece = piece.replace(b"\t", b" ")
    while b"  " in piece:
        piece = piece.replace(b"  ", b" ")
    return piece.replace(b" \r\n", CRLF)
