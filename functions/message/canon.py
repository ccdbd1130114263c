"""Canonicalization by RFC 6376 section 3.4, on bytes, in linear time.

dkimpy uses regular expressions, one of which rescans every run of white space from each of its
characters: 50 KB of spaces take seconds. This code squeezes white space first, so trailing white
space is one known byte, and counts the empty lines at the end instead of keeping them.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal, Protocol

Algorithm = Literal["simple", "relaxed"]

CRLF: Final = b"\r\n"

_RUNS: Final = (b" " * 64, b" " * 8)
_STRIPE: Final = 65_536  # empty lines to emit at once


class Sink(Protocol):
    """Receives canonical bytes, as hashlib's objects do."""

    def update(self, data: bytes, /) -> None: ...


def relaxed_value(value: bytes) -> bytes:
    """A header field's value unfolded, white space squeezed, ends stripped (section 3.4.2)."""
    return squeezed(value.replace(CRLF, b"")).strip(b" ")


def relaxed_usual(value: bytes) -> bytes:
    """The same for a value whose white space is spaces, tabs, and CRLFs with one of them behind: faster."""
    return b" ".join(value.split())


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """A field in canonical form, without its last CRLF."""
    return name.rstrip(b" \t").lower() + b":" + relaxed_value(value)


def squeezed(text: bytes) -> bytes:
    """The text with one space in place of each run of spaces and tabs."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    if b"  " in text:
        for run in _RUNS:  # long runs first, because each pass shortens them many times
            if run in text:
                text = text.replace(run, b" ")
        while b"  " in text:
            text = text.replace(b"  ", b" ")
    return text


def is_canonical(body: bytes, algorithm: Algorithm) -> bool:
    """True if a whole body is its own canonical form; False also for a few that are."""
    if len(body) < 3 or not body.endswith(CRLF) or body.endswith(b"\r\n\r\n"):
        return False
    return algorithm == "simple" or not (b"\t" in body or b"  " in body or b" \r\n" in body)


class BodyCanon:
    """A body's canonical form, emitted piece by piece as the body arrives.

    Feed pieces of any size, then call `finish`. `size` counts the canonical bytes so far. Line ends must
    be CRLF; a lone CR or LF is an ordinary byte.
    """

    __slots__ = ("_cr", "_empty_lines", "_relaxed", "_sink", "_space", "size")

    def __init__(self, algorithm: Algorithm, sink: Sink) -> None:
        self._relaxed = algorithm == "relaxed"
        self._sink = sink
        self._empty_lines = 0  # line ends not emitted yet
        self._cr = False  # the last byte was CR, perhaps half of a line end
        self._space = False  # white space came before it, perhaps trailing
        self.size = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        if self._cr:
            piece = b"\r" + piece
            self._cr = False
        if self._space:
            piece = b" " + piece
            self._space = False
        if piece.endswith(b"\r"):
            self._cr = True
            piece = piece[:-1]
        if self._relaxed:
            piece = self._squeeze(piece)
        self._settle(piece)

    def finish(self) -> None:
        """The body has ended."""
        if self._cr:  # a lone CR ends the body
            self._cr = False
            self._settle((b" " if self._space else b"") + b"\r")
        # Section 3.4.3: a "simple" body ends in one CRLF, even an empty one. Section 3.4.4: an
        # empty "relaxed" body stays empty, and trailing white space is gone.
        if self.size or not self._relaxed:
            self._give(CRLF)

    def _squeeze(self, piece: bytes) -> bytes:
        if b"\t" in piece:
            piece = piece.replace(b"\t", b" ")
        if b" " in piece and self._has_surplus(piece):
            piece = squeezed(piece).replace(b" \r\n", CRLF)
        if piece.endswith(b" "):
            self._space = True
            piece = piece[:-1]
        return piece

    def _has_surplus(self, piece: bytes) -> bool:
        """True if a space precedes another one or a line end."""
        return b"  " in piece or b" \r" in piece

    def _settle(self, piece: bytes) -> None:
        """Emit all but the final line ends, which may be the body's last."""
        text = piece.rstrip(CRLF)
        ends = len(piece) - len(text)
        lines = ends // 2
        if ends and piece[len(text) :] != CRLF * lines:
            # After a lone CR or LF only the whole line ends count.
            marked = piece[len(text) :].replace(CRLF, b"\0")
            kept = marked.rstrip(b"\0")
            lines = len(marked) - len(kept)
            text = piece[: len(piece) - 2 * lines]
        if text:
            self._flush()
            self._give(text)
        self._empty_lines += lines

    def _flush(self) -> None:
        while self._empty_lines:
            count = min(self._empty_lines, _STRIPE)
            self._give(CRLF * count)
            self._empty_lines -= count

    def _give(self, data: bytes) -> None:
        self.size += len(data)
        self._sink.update(data)


class RelaxedBody(BodyCanon):
    """The SHA-256 of a body's relaxed form, which is hashed piece by piece."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        super().__init__("relaxed", self._hash)

    def digest(self) -> bytes:
        """The hash of the whole body; `feed` must not be called after it."""
        self.finish()
        return self._hash.digest()
