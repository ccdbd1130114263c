"""Replies of an SMTP server (RFC 5321 section 4.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from functions.errors import Temporary
from functions.message.text import one_line

MAX_WORDS: Final = 500
"""Most characters of a server's words for records and logs."""

_ENHANCED: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?= |\Z)")


@dataclass(frozen=True, slots=True)
class ServerReply:
    """One reply: its code, and its lines without codes."""

    code: int
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def negative(self) -> bool:
        return 400 <= self.code < 600

    @property
    def permanent(self) -> bool:
        return 500 <= self.code < 600

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 3463), X.0.0 if the server gave none; its class is that of the
        reply's code, because the code decides (RFC 5321 section 4.2)."""
        found = _ENHANCED.match(self.lines[0]) if self.lines else None
        return f"{self.code // 100}{found[0][1:] if found else '.0.0'}"

    def __str__(self) -> str:
        """On one line, without control characters, at most MAX_WORDS of it; with an enhanced code only
        once."""
        first = self.lines[0] if self.lines else ""
        found = _ENHANCED.match(first)
        again = f"{found[0]} " if found else ""
        return clean(
            " ".join([str(self.code), first, *(line.removeprefix(again) for line in self.lines[1:])])
        )


class Said(NamedTuple):
    """Why delivery to a recipient failed: RFC 3463 enhanced status code, and words for the operator that
    quote the server."""

    enhanced: str
    words: str


class Unreachable(Temporary):
    """There is no usable session with the server, so another mail would fail now too."""


class LoginRefused(Unreachable):
    """The server refused the login, with a reply of this `code`."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason, enhanced="4.7.8", no_login=True)
        self.code = code


class Lost(Exception):
    """The connection is unusable; `str()` says why."""


def clean(text: str) -> str:
    """A server's words for a log or record."""
    return one_line(text)[:MAX_WORDS]
