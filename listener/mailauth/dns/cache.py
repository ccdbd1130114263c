"""Answers kept for as long as their TTL allows, in bounded room."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from listener.mailauth.dns.resolver import DnsAnswer, Outcome, Question

MAX_ENTRIES: Final = 8_192
MAX_OCTETS: Final = 16_777_216
"""Of record data in all entries together."""

MAX_TTL: Final = 3_600.0
"""Seconds that a good answer is kept at most: a key may be withdrawn in a hurry."""

MAX_NEGATIVE_TTL: Final = 300.0
"""Seconds that an absence is kept at most: people wait for the record they have just published."""

FAILURE_TTL: Final = 1.0
"""RFC 9520 section 3.2: failures are kept for a second at least. We keep them no longer."""

_ENTRY_OCTETS: Final = 256  # what an entry costs besides its records, roughly


def cost(answer: DnsAnswer) -> int:
    """The octets that an answer is counted for."""
    return _ENTRY_OCTETS + sum(
        len(record) if isinstance(record, (bytes, str)) else len(record[1]) + 8 for record in answer.records
    )


class Cache:
    """Least recently used goes first. Not for several threads."""

    def __init__(self, entries: int = MAX_ENTRIES, octets: int = MAX_OCTETS) -> None:
        self._entries: OrderedDict[Question, tuple[float, int, DnsAnswer]] = OrderedDict()
        self._max_entries = entries
        self._max_octets = octets
        self.octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Question, now: float | None = None) -> DnsAnswer | None:
        """The answer while it is fresh. `now` is monotonic time in seconds."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        if entry[0] <= (time.monotonic() if now is None else now):
            self._drop(question)
            return None
        self._entries.move_to_end(question)
        return entry[2]

    def put(self, question: Question, answer: DnsAnswer, now: float | None = None) -> None:
        """Keep an answer; one with no time to live, or too big for a cache, is not kept."""
        ttl = min(answer.ttl, MAX_TTL)
        if answer.outcome is Outcome.FAILED:
            ttl = FAILURE_TTL
        elif answer.outcome is not Outcome.FOUND:
            ttl = min(ttl, MAX_NEGATIVE_TTL)
        size = cost(answer)
        if question in self._entries:
            self._drop(question)
        if ttl <= 0 or size > self._max_octets // 16:
            return
        self._entries[question] = ((time.monotonic() if now is None else now) + ttl, size, answer)
        self.octets += size
        while len(self._entries) > self._max_entries or self.octets > self._max_octets:
            self._drop(next(iter(self._entries)))

    def _drop(self, question: Question) -> None:
        self.octets -= self._entries.pop(question)[1]
