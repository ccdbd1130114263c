"""DNS as the checks see it: a question has an answer, and the answer may be a temporary failure.

RFC 7208 section 4.6.4, RFC 6376 section 6.1.2 and RFC 9989 section 4.7 all depend on the same four
outcomes: records, no records of that type, no such name, and a temporary failure. The last never counts
as one of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, NamedTuple, Protocol

RecordType = Literal["TXT", "A", "AAAA", "MX", "PTR"]

Record = bytes | str | tuple[int, str]
"""TXT: the bytes of all its strings, joined. A, AAAA: canonical text. MX: preference and host. PTR: a
name. Names are lower-case and have no final dot."""

MAX_RECORDS: Final = 100
"""Most records to use of one answer; a longer answer is a mistake or an attack."""

AT_ONCE: Final = 10
"""Most concurrent questions of one list, because each takes memory while it waits."""


class Question(NamedTuple):
    """A question: a name in lower case without final dot, and a type."""

    name: str
    type: RecordType


class Outcome(Enum):
    """How a question ended."""

    FOUND = "found"
    EMPTY = "no data"
    ABSENT = "no such name"
    FAILED = "temporary failure"


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """One question's answer. `records` is filled when the outcome is FOUND; `reason` says in a few words
    why it failed. `ttl` is in seconds."""

    outcome: Outcome
    records: tuple[Record, ...] = ()
    ttl: float = 0.0
    reason: str = ""

    @property
    def failed(self) -> bool:
        """True if the failure is temporary: a later attempt may succeed."""
        return self.outcome is Outcome.FAILED

    @property
    def texts(self) -> tuple[bytes, ...]:
        """The records of a TXT answer."""
        return tuple([record for record in self.records if isinstance(record, bytes)])


EMPTY: Final = DnsAnswer(Outcome.EMPTY)
ABSENT: Final = DnsAnswer(Outcome.ABSENT)


def failed(reason: str) -> DnsAnswer:
    """An answer for a temporary failure."""
    return DnsAnswer(Outcome.FAILED, reason=reason)


class Resolver(Protocol):
    """A source of answers. Implementations are bounded in time and memory."""

    def known(self, question: Question) -> DnsAnswer | None:
        """The answer if it needs no waiting, else None."""

    async def resolve(self, question: Question) -> DnsAnswer:
        """The answer. Raises nothing but CancelledError."""


Holds = Callable[[Iterable[tuple[Question, DnsAnswer]]], bool]
"""True if every one of these answers is the known one, the same object."""


class SharedDns(Protocol):
    """A resolver that several clients share."""

    @property
    def holds(self) -> Holds: ...

    def for_client(self, address: str) -> Resolver:
        """The resolver for the mail of the client at an IP address."""


class QueryBudget:
    """A resolver that asks a limited number of questions, each of them once, for one mail."""

    __slots__ = ("_answers", "_inner", "_left", "_limit")

    def __init__(self, inner: Resolver, limit: int) -> None:
        self._inner = inner
        self._limit = self._left = limit
        self._answers: dict[Question, DnsAnswer] = {}

    def known(self, question: Question) -> DnsAnswer | None:
        return self._answers.get(question) or self._inner.known(question)

    async def resolve(self, question: Question) -> DnsAnswer:
        """The answer, or a temporary failure when all questions are asked, because nothing is known
        then about what the mail claims."""
        if not self._left:
            return failed(f"the mail needs more than {self._limit} DNS queries")
        self._left -= 1
        answer = self._answers[question] = await self._inner.resolve(question)
        return answer


class Deadline:
    """A resolver that stops waiting at a moment of the event loop's clock."""

    __slots__ = ("_inner", "_until", "known")

    known: Callable[[Question], DnsAnswer | None]

    def __init__(self, inner: Resolver, until: float) -> None:
        self._inner = inner
        self._until = until
        self.known = inner.known  # assigned, not wrapped, because every question calls it

    async def resolve(self, question: Question) -> DnsAnswer:
        left = self._until - asyncio.get_running_loop().time()
        if left <= 0:
            return failed("no time left")
        try:
            async with asyncio.timeout(left):
                return await self._inner.resolve(question)
        except TimeoutError:
            return failed("no time left")


class AnswerMissing(BaseException):
    """An answer is not known. Not an Exception, because pyspf catches those in places."""


class KnownAnswers:
    """A resolver that asks nothing: its caller starts again with another one after AnswerMissing. `answers`
    are those that it gave."""

    __slots__ = ("_known", "answers")

    def __init__(self, inner: Resolver) -> None:
        self._known = inner.known
        self.answers: dict[Question, DnsAnswer] = {}

    def known(self, question: Question) -> DnsAnswer:
        """The answer. Raises AnswerMissing if it needs waiting."""
        answer = self._known(question)
        if answer is None:
            raise AnswerMissing
        self.answers[question] = answer
        return answer

    async def resolve(self, question: Question) -> DnsAnswer:
        return self.known(question)


async def resolve_all(resolver: Resolver, questions: Iterable[Question]) -> dict[Question, DnsAnswer]:
    """All answers; unknown ones are queried concurrently, AT_ONCE at most."""
    answers: dict[Question, DnsAnswer] = {}
    missing: list[Question] = []
    for question in dict.fromkeys(questions):
        answer = resolver.known(question)
        if answer is None:
            missing.append(question)
        else:
            answers[question] = answer
    if len(missing) == 1:
        answers[missing[0]] = await resolver.resolve(missing[0])
    elif missing:
        left = iter(missing)

        async def ask() -> None:
            for question in left:
                answers[question] = await resolver.resolve(question)

        await asyncio.gather(*(ask() for _ in range(min(len(missing), AT_ONCE))))
    return answers


async def resolve_one(resolver: Resolver, question: Question) -> DnsAnswer:
    """One answer, without a task if it is known."""
    return resolver.known(question) or await resolver.resolve(question)
