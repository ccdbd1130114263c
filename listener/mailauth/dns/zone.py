"""A resolver over a given zone: for tests, benchmarks and `auth-check --zone`.

The zone is a mapping of names to `{TYPE: [values]}`. A string in place of a list is a behaviour:
SERVFAIL, REFUSED, TIMEOUT (a temporary failure), NXDOMAIN. The type "*" means every type not listed; a
name not listed does not exist. A TXT value is a string, or a list of strings for a record in parts; MX
values are `[preference, host]`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from listener.mailauth.dns.resolver import (
    ABSENT,
    EMPTY,
    DnsAnswer,
    Outcome,
    Question,
    Record,
    RecordType,
    failed,
)

MAX_ALIASES: Final = 8
"""Most aliases to follow for one question."""

Zone = Mapping[str, Mapping[str, str | Sequence[Any]]]


class MemoryResolver:
    """Knows every answer at once, and makes each answer only once."""

    def __init__(self, zone: Zone) -> None:
        self._zone = {name.lower().removesuffix("."): types for name, types in zone.items()}
        self._made: dict[Question, DnsAnswer] = {}
        self.asked = 0

    def for_client(self, address: str) -> MemoryResolver:
        """Itself, because no answer has to wait."""
        return self

    def holds(self, answers: Iterable[tuple[Question, DnsAnswer]]) -> bool:
        """True if it gives each of these answers, the same object."""
        return all(self.known(question) is answer for question, answer in answers)

    def known(self, question: Question) -> DnsAnswer | None:
        self.asked += 1
        answer = self._made.get(question)
        if answer is None:
            answer = self._answer(question.name, question.type)
            self._made[question] = answer
        return answer

    async def resolve(self, question: Question) -> DnsAnswer:
        answer = self.known(question)
        assert answer is not None
        return answer

    def _answer(self, name: str, type_: RecordType) -> DnsAnswer:
        for _ in range(MAX_ALIASES + 1):
            types = self._zone.get(name)
            if types is None:
                return ABSENT
            values = types.get(type_, types.get("*"))
            if isinstance(values, str):
                return ABSENT if values == "NXDOMAIN" else failed(values)
            if values:
                return DnsAnswer(Outcome.FOUND, tuple(_record(type_, value) for value in values), 3_600.0)
            alias = types.get("CNAME")
            if not alias:
                return EMPTY
            name = str(alias[0]).lower().removesuffix(".")
        return failed("alias loop")


def _record(type_: RecordType, value: Any) -> Record:
    if type_ == "TXT":
        return b"".join(map(_octets, value if isinstance(value, list) else [value]))
    if type_ == "MX":
        preference, host = value if isinstance(value, (list, tuple)) else str(value).split()
        return int(preference), str(host).lower().removesuffix(".")
    if type_ == "PTR":
        return str(value).lower().removesuffix(".")
    return str(ipaddress.ip_address(str(value)))


def _octets(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
