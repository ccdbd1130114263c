"""The answers of a filter, with their replies (docs/concepts.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal, NamedTuple


class Phase(IntEnum):
    """The phases of a connection, in their order, at which the flows ask the filters."""

    CONNECT = 0
    AUTH = 1
    MAIL = 2
    RCPT = 3
    DATA = 4


class Reply(NamedTuple):
    """One SMTP reply: RFC 5321 code, RFC 3463 enhanced status code ("" for none), text."""

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}" if self.enhanced else f"{self.code} {self.text}"


class Exact(Reply):
    """A reply that is sent as it is: other replies get a code that RFC 5321 permits at their phase. At AUTH
    it ends the attempt, whatever other filters say."""

    __slots__ = ()


DROPPED: Final = Exact(421, "", "(connection closed without a reply)")
"""Stands for no reply: the connection is closed."""

Verdict = Literal["accept", "refuse", "defer", "abstain"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A filter's answer at one phase.

    `reply` is the reply to the client if this answer decides a refusal or a deferral; without it
    the listener chooses the words. The other three count only at the data phase: `headers` are
    fields to prepend at this flow's deliveries, `recipients` the subset (exact addresses) of this
    flow's recipients that stay, `results` the filter's findings, for the envelope's notes.
    """

    verdict: Verdict
    reply: Reply | None = None
    headers: tuple[tuple[str, str], ...] = ()
    recipients: frozenset[str] | None = None
    results: Mapping[str, Any] = field(default_factory=dict)


ACCEPT: Final = Decision("accept")
REFUSE: Final = Decision("refuse")
ABSTAIN: Final = Decision("abstain")
DEFER: Final = Decision("defer")


def refuse(code: int, enhanced: str, text: str) -> Decision:
    """A refusal with its reply."""
    return Decision("refuse", Reply(code, enhanced, text))


def defer(code: int, enhanced: str, text: str) -> Decision:
    """A deferral with its reply."""
    return Decision("defer", Reply(code, enhanced, text))
