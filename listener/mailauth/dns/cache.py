"""A bounded cache of DNS answers that respects their TTL."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from listener.mailauth.dns.resolver import DnsAnswer, Outcome, Question

MAX_ENTRIES: Final = 8_192
MAX_OCTETS: Final = 16_777_216
"""Most bytes of record data in all entries together."""

MAX_TTL: Final = 3_600.0
"""Most seconds to keep a good answer, because a domain may have to withdraw a key quickly."""

MAX_NEGATIVE_TTL: Final = 300.0
"""Most seconds to keep an absence, because people wait for a record that they just published."""

FAILURE_TTL: Final = 1.0
"""RFC 9520 section 3.2: keep failures for at least a second. This cache keeps them no longer."""

_ENTRY_OCTETS: Final = 256  # rough overhead of an entry, without its records


def cost(answer: DnsAnswer) -> int:
    """The bytes to count for an answer."""
    return _ENTRY_OCTETS + sum(
        len(record) if isinstance(record, (bytes, str)) else len(record[1]) + 8 for record in answer.records
    )


class Cache:
    """Evicts the least recently used entry first. Not thread-safe."""

    def __init__(self, entries: int = MAX_ENTRIES, octets: int = MAX_OCTETS) -> None:
        self._entries: OrderedDict[Question, tuple[float, int, DnsAnswer]] = OrderedDict()
        self._max_entries = entries
        self._max_octets = octets
        self.octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Question, now: float | None = None) -> DnsAnswer | None:
        """The answer while it is fresh, else None. `now` is monotonic time in seconds."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        if entry[0] <= (time.monotonic() if now is None else now):
            self._drop(question)
            return None
        self._entries.move_to_end(question)
        return entry[2]

    def holds(self, answers: Iterable[tuple[Question, DnsAnswer]]) -> bool:
        """True while `get` returns each of these answers, the same object: quicker than as many calls."""
        entries, now = self._entries, time.monotonic()
        for question, answer in answers:
            entry = entries.get(question)
            if entry is None or entry[2] is not answer or entry[0] <= now:
                return False
            entries.move_to_end(question)
        return True

    def put(self, question: Question, answer: DnsAnswer, now: float | None = None) -> None:
        """Keep an answer, unless its TTL is 0 or it is too large."""
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
