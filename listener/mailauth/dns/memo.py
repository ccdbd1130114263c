"""Keeps what was concluded from DNS answers, as long as the DNS gives the same answers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from listener.mailauth.dns.cache import cost
from listener.mailauth.dns.resolver import DnsAnswer, Holds, Question

MAX_ENTRIES: Final = 1_024

MAX_ANSWERS: Final = 24
"""Most answers of one entry."""

MAX_BYTES: Final = 4_096
"""Most bytes of the answers of one entry, as the cache of answers counts them: all entries together hold
4 MB."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Entry(NamedTuple, Generic[V]):
    answers: tuple[tuple[Question, DnsAnswer], ...]
    value: V


class Memo(Generic[K, V]):
    """Values that follow from a key and from answers alone. An entry counts only while the DNS still has
    every one of its answers, the same object, so a value is never older than an answer. The least recently
    used entry leaves first."""

    def __init__(self, entries: int = MAX_ENTRIES) -> None:
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._most = entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(
        self, key: K, known: Callable[[Question], DnsAnswer | None], holds: Holds | None = None
    ) -> V | None:
        """The value of a key while all its answers are `known`, else None. `holds` says that of all at once,
        where the source of answers can."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if holds is not None:
            if not holds(entry.answers):
                return None
        else:
            for question, answer in entry.answers:
                if known(question) is not answer:
                    return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: K, answers: Mapping[Question, DnsAnswer], value: V) -> None:
        """Keep the value that follows from these answers, unless one is a temporary failure or they are too
        many or too large."""
        if len(answers) > MAX_ANSWERS or any(answer.failed for answer in answers.values()):
            return
        if sum(map(cost, answers.values())) > MAX_BYTES:
            return
        self._entries[key] = _Entry(tuple(answers.items()), value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)
