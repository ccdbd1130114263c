"""Numbered mails: their content, their recipients, and their outcomes."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import threading
from dataclasses import dataclass, field
from typing import Final

DOOR: Final = "open"
"""The listener that accepts all mail."""

CHECKED: Final = "checked"
"""The listener with filters that ask by HTTP and by DNS."""

SENDER: Final = "a@client.example"
FILED: Final = "b@server.example"
RELAYED: Final = "c@relay.example"
POSTED: Final = "d@hook.example"
PUBLISHED: Final = "e@topic.example"
LOGGED_IN: Final = "f@login.example"
UNKNOWN: Final = "nobody@relay.example"
"""A recipient that the next hop refuses for good."""

_NUMBER: Final = re.compile(rb"X-Number: (\d+)\r\n")
_ID: Final = re.compile(rb"\bid ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")


def letter(number: int) -> bytes:
    """The mail of a number: always the same; mostly small, every 23rd large enough to be captured in
    a file."""
    noise = random.Random(number)
    size = noise.randrange(70_000, 110_000) if number % 23 == 0 else noise.randrange(1, 4_000)
    line = hashlib.sha256(str(number).encode()).hexdigest().encode() + b"\r\n"
    body = (b"." if number % 3 == 0 else b"") + line * (size // len(line) + 1)
    return b"Subject: number %d\r\nFrom: a@client.example\r\nX-Number: %d\r\n\r\n" % (number, number) + body


def recipients(number: int, door: str) -> tuple[str, ...]:
    """Every third mail of the open listener goes to the next hop too, and a tenth of those to a recipient
    unknown to it. Of the others, half go to one more place each: the webhook, or the topics and the next
    hop that takes tokens."""
    if door == CHECKED:
        return (FILED,)
    if number % 3 == 0:
        return (FILED, UNKNOWN if number % 10 == 0 else RELAYED)
    if number % 4 == 1:
        return (FILED, POSTED)
    return (FILED, PUBLISHED, LOGGED_IN) if number % 4 == 3 else (FILED,)


def number_of(stored: bytes) -> int | None:
    """The number of a mail as it arrived."""
    found = _NUMBER.search(stored)
    return int(found[1]) if found else None


def id_of(stored: bytes) -> str | None:
    """The relay's id for it, from the relay's Received field."""
    found = _ID.search(stored)
    return found[1].decode() if found else None


@dataclass
class Sent:
    """One mail whose last byte was sent, and its recipients that RCPT accepted."""

    door: str
    recipients: tuple[str, ...]
    answer: int | None = None
    """The code after the final dot, None if there was none."""


@dataclass
class Book:
    """All mails of one episode. Used by all clients at once."""

    sent: dict[int, Sent] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)
    """Numbers of mails whose client hung up before their end: they must not exist anywhere."""
    codes: dict[int, int] = field(default_factory=dict)
    """How often each code was answered, to any command."""
    taken: int = 0
    """How many mails were answered 250."""
    most: int | None = None
    """Clients pause after so many accepted mails."""
    first: int = 1

    def __post_init__(self) -> None:
        self._numbers = itertools.count(self.first)
        self._lock = threading.Lock()

    @property
    def full(self) -> bool:
        """True if clients pause."""
        return self.most is not None and self.taken >= self.most

    def number(self) -> int:
        """The next number."""
        return next(self._numbers)

    def leaves(self, number: int, door: str, accepted: tuple[str, ...]) -> None:
        """The last byte is about to be sent."""
        with self._lock:
            self.sent[number] = Sent(door, accepted)

    def answered(self, number: int, code: int, accepted: tuple[str, ...] | None = None) -> None:
        """The answer to a mail."""
        with self._lock:
            self.sent[number].answer = code
            self.taken += code == 250
            if accepted is not None:
                self.sent[number].recipients = accepted
        self.heard(code)

    def heard(self, code: int) -> None:
        """Any reply."""
        with self._lock:
            self.codes[code] = self.codes.get(code, 0) + 1

    def hung_up(self, number: int) -> None:
        """The client went away within the mail."""
        with self._lock:
            self.cut.add(number)

    def acknowledged(self, door: str = DOOR, recipient: str = FILED) -> set[int]:
        """Mails answered 250 for that recipient."""
        with self._lock:
            return {
                number
                for number, one in self.sent.items()
                if one.answer == 250 and one.door == door and recipient in one.recipients
            }

    def possible(self, door: str = DOOR, recipient: str = FILED) -> set[int]:
        """Mails that may have been accepted for that recipient, answered or not."""
        with self._lock:
            return {n for n, one in self.sent.items() if one.door == door and recipient in one.recipients}
