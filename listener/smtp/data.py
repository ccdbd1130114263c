"""Reads DATA: dot-unstuffing, the end of the mail, and line-end discipline, in chunks.

RFC 5321 section 4.5.2 (transparency) and 2.3.8 (lines end only in CRLF). The work is done on whole
chunks with C-speed searches, never line by line.
"""

from __future__ import annotations

from enum import Enum
from io import IncrementalNewlineDecoder
from typing import Final, Literal

from listener.api.decision import Reply

END: Final = b"\r\n.\r\n"

# RFC 3463 section 3.7: X.6.0 is "other media error"; 5.6.11 is Postfix's code for bare newlines.
NUL_REFUSED: Final = Reply(550, "5.6.0", "The mail holds a NUL byte")
BARE_REFUSED: Final = Reply(550, "5.6.11", "Bare CR or LF in the mail; lines end in CRLF (RFC 5321 2.3.8)")

FEW_DOTS: Final = 16
"""Dots that are looked at one by one before their line starts are searched for: a usual header has
about ten."""

FEW_IN_SMALL: Final = 5
"""The same in data of at most SMALL bytes, where that search is quick."""

SMALL: Final = 16_384


class Flaw(Enum):
    """A fault in the bytes of a mail."""

    NUL = NUL_REFUSED
    BARE = BARE_REFUSED
    LINE = Reply(550, "5.6.0", "A line of the mail is too long")


class DataReader:
    """Turns the bytes after DATA's 354 into the mail's bytes, chunk by chunk.

    The output has every stuffed dot removed and, in the "normalize" mode, only CRLF line ends: a
    bare LF becomes CRLF and a bare CR a space. Only CRLF.CRLF as sent ends the mail, so a
    normalized line end can never end it (SMTP smuggling). The output does not depend on the cuts of
    the input.
    """

    __slots__ = ("_carry", "_column", "_max_line", "_refuse_bare", "_virtual", "flaw", "rest")

    def __init__(self, bare_newline: Literal["normalize", "refuse"], max_line: int) -> None:
        # DATA begins at the start of a line: the CRLF that ended the DATA command counts as the
        # one before the first line, and is not part of the mail.
        self._carry = b"\r\n"
        self._virtual = True
        self._column = 0
        self._refuse_bare = bare_newline == "refuse"
        self._max_line = max_line
        self.flaw: Flaw | None = None
        """The first fault; reading goes on to the end all the same."""
        self.rest: bytes | None = None
        """The bytes after the end of the mail; None until it is reached."""

    def feed(self, chunk: bytes) -> bytes:
        """Take one chunk and return the mail's bytes that are certain by now.

        Sets `rest` when the end is reached; feeding more after that is an error.
        """
        data = self._carry + chunk
        first = _first_dot(data)
        if first >= 0 and (end := data.find(END, first)) >= 0:
            self.rest = data[end + 5 :]
            piece = data[: end + 2]
            self._carry = b""
            stuffed = first < end
        else:
            keep = _held_back(data)
            piece = data[:-keep] if keep else data
            self._carry = data[-keep:] if keep else b""
            stuffed = first >= 0
        if not piece:
            return b""
        return self._settle(piece, stuffed)

    def _settle(self, piece: bytes, stuffed: bool) -> bytes:
        if stuffed:
            piece = piece.replace(b"\r\n.", b"\r\n")
        if self._virtual:
            piece = piece[2:]
            self._virtual = False
        if piece.find(b"\0") >= 0:
            self.flaw = self.flaw or Flaw.NUL
        # The decoder notes which of CR, LF and CRLF it saw, in one pass and a fifth of the time of
        # counting each.
        seen = IncrementalNewlineDecoder(None, translate=False)
        seen.decode(piece.decode("latin-1"), final=True)
        if seen.newlines is not None and seen.newlines != "\r\n":
            if self._refuse_bare:
                self.flaw = self.flaw or Flaw.BARE
            # Three passes at the speed of C. An expression's matches would cost a hundred times
            # their bytes, and a mail of only CRs could have many.
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b" ").replace(b"\n", b"\r\n")
        if self._column + len(piece) <= self._max_line:
            last = piece.rfind(b"\n")
            self._column = self._column + len(piece) if last < 0 else len(piece) - last - 1
        else:
            self._measure(piece)
        return piece

    def _measure(self, piece: bytes) -> None:
        """Look for a line longer than allowed: one backward search for each `max_line` bytes."""
        size, limit = len(piece), self._max_line
        start = -self._column
        while size - start > limit:
            newline = piece.rfind(b"\n", max(start, 0), start + limit)
            if newline < 0:
                self.flaw = self.flaw or Flaw.LINE
                newline = piece.rfind(b"\n")
                start = newline + 1 if newline >= 0 else size
                break
            start = newline + 1
        last = piece.rfind(b"\n", max(start, 0))
        self._column = size - (last + 1 if last >= 0 else start)


def _first_dot(data: bytes) -> int:
    """The start of the first line that starts with a dot, its CRLF before it; -1 without one. Searching
    for one byte is much faster than for three, so a few dots are checked one by one (base64 has
    none)."""
    at = -1
    for _ in range(FEW_DOTS if len(data) > SMALL else FEW_IN_SMALL):
        at = data.find(b".", at + 1)
        if at < 0:
            return -1
        if data[at - 2 : at] == b"\r\n":
            return at - 2
    return data.find(b"\r\n.", at + 1)


def _held_back(data: bytes) -> int:
    """The number of bytes at the end that must wait for the next chunk."""
    if data.endswith(b"\n"):
        # A CRLF waits because a dot may follow it.
        return 2 if data.endswith(b"\r\n") else 0
    if data.endswith(b"\r"):
        return 4 if data.endswith(b"\r\n.\r") else 1
    return 3 if data.endswith(b"\r\n.") else 0
