"""SPF by RFC 7208: pyspf evaluates, this module awaits DNS, and limits belong to one check.

pyspf queries DNS in the middle of its evaluation and keeps its limits in its module. This module runs
pyspf on the known answers. If one is missing, pyspf stops, this module awaits the answer, and pyspf runs
again. With cached answers one run suffices. The runs are bounded: a record's size, terms and macros are
capped before pyspf's regular expressions see them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from functions.message.domains import MAX_NAME
from listener.mailauth.dns.domains import normal
from listener.mailauth.dns.memo import Memo
from listener.mailauth.dns.resolver import (
    Deadline,
    DnsAnswer,
    Outcome,
    Question,
    RecordType,
    Resolver,
    resolve_all,
)
from listener.mailauth.results import SpfResult, SpfVerdict

with warnings.catch_warnings():
    # Python 3.12 and later warn about escapes in its docstrings when they compile it.
    warnings.simplefilter("ignore")
    import spf as pyspf

_log = logging.getLogger("smtp_relay.mailauth")

TIME_LIMIT: Final = 20.0
"""Seconds for one check; RFC 7208 section 4.6.4 asks for at least as many."""

MAX_RECORD: Final = 8_192
"""Most bytes of one SPF record or explanation; section 3.4 advises to stay below 450."""

MAX_TERM: Final = 512
"""Most characters of one term; a domain name has 253."""

MAX_TERMS: Final = 1_000
"""Most terms in all records of one check."""

MAX_MACROS: Final = 256
"""Most macros to expand in one check."""

MAX_LOCAL_PART: Final = 255
"""Characters; RFC 5321 section 4.5.3.1.1 allows 64."""

MAX_MX: Final = 10
MAX_PTR: Final = 10
"""Most names to use of one MX or PTR answer (section 4.6.4)."""

MAX_EXPLANATION: Final = 500
"""Most characters to keep of an explanation."""

_MAX_RUNS: Final = 200
_MACRO_STRING: Final = re.compile(  # section 7.1; pyspf accepts an unterminated macro
    r"[^%]*(?:%(?:[%_-]|\{[a-z](?:0*[1-9][0-9]*)?r?[.+,/_=-]*\})[^%]*)*", re.IGNORECASE
)
_LONG_LABEL: Final = re.compile(r"[0-9A-Za-z_-]{64}")
_VERDICTS: Final[dict[str, SpfVerdict]] = {
    "none": "none",
    "neutral": "neutral",
    "pass": "pass",
    "fail": "fail",
    "softfail": "softfail",
    "temperror": "temperror",
    "permerror": "permerror",
}


@dataclass(frozen=True, slots=True)
class SpfLimits:
    """RFC 7208 section 4.6.4: terms that query DNS, and answers without records, per check."""

    lookups: int = 10
    voids: int = 2


@dataclass(slots=True)  # not frozen, because that doubles the cost of construction
class Sender:
    """The sender of a mail, as SMTP sees it. `reverse_path` has no angle brackets and is "" for the null
    sender; `receiver` is the relay's own name."""

    ip: str
    helo: str
    reverse_path: str
    receiver: str


_LIMITS: Final = SpfLimits()


class _Missing(BaseException):
    """The evaluation needs more answers. Not an Exception, because pyspf catches those in places."""

    def __init__(self, questions: list[Question]) -> None:
        super().__init__()
        self.questions = questions


class _PendingExplanation(str):
    """A placeholder for the explanation, which is fetched only after the check fails."""

    __slots__ = ("domain", "spec")
    domain: str
    spec: str


Known = Callable[[Question], DnsAnswer | None]


_Asked = tuple[str, str, int, int, bool]
"""All that a verdict follows from beside the answers, if no record has a macro: the client's address, the
domain, both limits, and if an explanation is wanted."""


class _Found(NamedTuple):
    verdict: SpfVerdict
    mechanism: str = ""
    reason: str = ""
    explanation: str = ""
    lookups: int = 0


_memo: Final = Memo[_Asked, _Found]()
"""Verdicts of the last senders."""


class _Evaluation(pyspf.query):  # type: ignore[misc]
    """One run of pyspf over known answers. Its public one-letter attributes are SPF macros."""

    d: str

    def __init__(self, sender: Sender, known: Known, limits: SpfLimits) -> None:
        super().__init__(i=sender.ip, s=sender.reverse_path, h=sender.helo, receiver=sender.receiver)
        self.l, _, self.o = sender.reverse_path.rpartition("@")  # pyspf takes the first @
        self.d = self.o
        self._known = known
        self._limits = limits
        self._terms = 0
        self._macros = 0

    # -- the DNS --------------------------------------------------------------------------------

    def _answer(self, name: str, type_: RecordType) -> DnsAnswer:
        question = Question(name, type_)
        answer = self._known(question)
        if answer is None:
            raise _Missing([question])
        return answer

    def dns(self, name: str, qtype: RecordType, cnames: Any = None, ignore_void: bool = False) -> list[Any]:
        """Records of one name. The resolver follows aliases."""
        asked = str(name).lower().removesuffix(".")
        if not _resolvable(asked):
            return []  # as pyspf treats names that DNS cannot hold: no lookup, so no void
        answer = self._answer(asked, qtype)
        if answer.failed:
            raise pyspf.TempError(f"DNS: {answer.reason}")
        if answer.outcome is not Outcome.FOUND:
            if not ignore_void:
                self._count_void()
            return []
        if qtype == "TXT":
            return [(record,) for record in answer.records]
        return list(answer.records)

    def _count_void(self) -> None:
        self.void_lookups += 1
        if self.void_lookups > self._limits.voids:
            raise pyspf.PermError(f"more than {self._limits.voids} lookups without records")

    def dns_mx(self, domainname: str) -> list[str]:
        """Addresses of a domain's exchanges, queried concurrently (section 5.4)."""
        exchanges = sorted(self.dns(domainname, "MX"))
        if len(exchanges) > MAX_MX:
            raise pyspf.PermError(f"more than {MAX_MX} MX records")
        hosts = [host for _, host in exchanges if _resolvable(host)]
        self._need(hosts)
        return [address for host in hosts for address in self.dns_a(host, self.A)]

    def validated_ptrs(self) -> list[str]:
        """The client's names that resolve back to it. Section 5.5: a DNS error is not a match."""
        try:
            names = self.dns_ptr(self.i)[:MAX_PTR]
        except pyspf.TempError:
            return []
        names = [name for name in names if _resolvable(name)]
        self._need(names)
        found = []
        for name in names:
            answer = self._answer(name, self.A)
            if answer.outcome is Outcome.FOUND and self.cidrmatch(map(str, answer.records), self.cidrmax):
                found.append(name)
        return found

    def _need(self, names: list[str]) -> None:
        missing = [q for q in (Question(name, self.A) for name in names) if self._known(q) is None]
        if missing:
            raise _Missing(missing)

    def cidrmatch(self, ipaddrs: Iterable[str], n: int) -> bool:
        """True if the client is in one of the networks: pyspf's method, without network objects."""
        client = self.ipaddr
        shift = client.max_prefixlen - n
        network = int(client) >> shift
        try:
            parsed = [_address(address) for address in ipaddrs]
        except ValueError as error:
            raise pyspf.PermError("not an address") from error
        return any(a.version == client.version and int(a) >> shift == network for a in parsed)

    # -- the limits -----------------------------------------------------------------------------

    def check_lookups(self) -> None:
        self.lookups += 1
        if self.lookups > self._limits.lookups:
            raise pyspf.PermError(f"more than {self._limits.lookups} terms that need the DNS")

    def check1(self, spf: str | None, domain: str, recursion: int) -> Any:
        if recursion > pyspf.MAX_RECURSION:  # pyspf would report its own fault
            raise pyspf.PermError("includes too deep")
        return super().check1(spf, domain, recursion)

    def check0(self, spf: str | None, recursion: int) -> Any:
        if spf:
            self._screen(spf)
        return super().check0(spf, recursion)

    def _screen(self, record: str) -> None:
        """Refuse records beyond the bounds before pyspf parses them."""
        terms = record.split(" ")
        self._terms += len(terms)
        if len(record) > MAX_RECORD or self._terms > MAX_TERMS:
            raise pyspf.PermError("record too long")
        for term in terms:
            if len(term) > MAX_TERM or _LONG_LABEL.search(term):
                raise pyspf.PermError("term too long")

    def expand(self, s: str, stripdot: bool = True) -> str:
        self._macros += s.count("%")
        if self._macros > MAX_MACROS:
            raise pyspf.PermError("too many macros")
        if not _MACRO_STRING.fullmatch(s):
            raise pyspf.PermError("malformed macro")
        expanded: str = super().expand(s, stripdot)
        if stripdot:
            # Section 7.3: remove labels from the left until the name fits. pyspf removes only one.
            while len(expanded) > 253 and "." in expanded:
                expanded = expanded[expanded.index(".") + 1 :]
        return expanded

    # -- the explanation ------------------------------------------------------------------------

    def get_explanation(self, spec: str) -> str | None:
        """Deferred, because pyspf would fetch it for every result (section 6.2)."""
        if not spec:
            return None
        pending = _PendingExplanation(spec)  # not empty: pyspf drops those
        pending.domain = self.d
        pending.spec = spec
        return pending

    def fetch_explanation(self, pending: _PendingExplanation) -> str | None:
        """The explanation's text, or None if it is missing or malformed (section 6.2)."""
        outer, self.d = self.d, pending.domain
        try:
            texts = self.dns_txt(pending.spec, ignore_void=True)
            if len(texts) != 1 or len(texts[0]) > MAX_RECORD:
                return None
            return str(self.expand(texts[0].decode("ascii"), stripdot=False))
        except (pyspf.PermError, pyspf.TempError, UnicodeDecodeError):
            return None
        finally:
            self.d = outer


async def check(
    resolver: Resolver,
    sender: Sender,
    *,
    limits: SpfLimits | None = None,
    explain: bool = False,
    time_limit: float = TIME_LIMIT,
) -> SpfResult:
    """Check one client's use of a reverse-path, or of its HELO name for the null sender.

    With `explain`, a failure's explanation is fetched. Raises nothing but CancelledError: an error here
    is a temperror.
    """
    local, domain, identity = _identity(sender)
    if domain is None or "." not in domain or len(local) > MAX_LOCAL_PART:
        # Section 4.3: the name cannot have a record.
        return _result(sender, "", identity, _Found("none", reason="no domain to check"))
    limits = limits or _LIMITS
    asked = sender.ip, domain, limits.lookups, limits.voids, explain
    found = _memo.get(asked, resolver.known)
    if found is None:
        found = await _find(resolver, sender, local, asked, time_limit)
    return _result(sender, domain, identity, found)


async def _find(resolver: Resolver, sender: Sender, local: str, asked: _Asked, time_limit: float) -> _Found:
    _, domain, lookups, voids, explain = asked
    limits = SpfLimits(lookups, voids)
    exact = Sender(
        ip=sender.ip.partition("%")[0],  # a link-local address may come with its zone
        helo=sender.helo[:MAX_NAME],
        reverse_path=f"{local}@{domain}",
        receiver=sender.receiver,
    )
    within: Resolver | None = None
    answers: dict[Question, DnsAnswer] = {}

    def known(question: Question) -> DnsAnswer | None:
        answer = answers.get(question)
        if answer is None:
            answer = resolver.known(question)
            if answer is not None:
                answers[question] = answer
        return answer

    for _ in range(_MAX_RUNS):
        try:
            found = _run(_Evaluation(exact, known, limits), explain=explain)
        except _Missing as missing:
            within = within or Deadline(resolver, asyncio.get_running_loop().time() + time_limit)
            answers.update(await resolve_all(within, missing.questions))
        except Exception:  # noqa: BLE001 - a fault in the evaluation must not become a verdict
            _log.exception("SPF evaluation failed", extra={"domain": domain})
            return _Found("temperror", reason="evaluation failed")
        else:
            if not any(b"%" in text for answer in answers.values() for text in answer.texts):
                _memo.put(asked, answers, found)
            return found
    return _Found("permerror", reason="too many lookups")


def _run(evaluation: _Evaluation, *, explain: bool) -> _Found:
    verdict, _, text = evaluation.check()
    reason = explanation = ""
    if verdict in ("temperror", "permerror"):
        reason = str(getattr(evaluation, "prob", "")).partition("\n")[0]
    elif verdict == "none":
        reason = "no SPF record"
    elif explain and verdict == "fail":
        if isinstance(text, _PendingExplanation):
            text = evaluation.fetch_explanation(text)
            text = pyspf.EXPLANATIONS["fail"] if text is None else text
        explanation = "".join(c for c in text if c.isprintable())[:MAX_EXPLANATION]
    return _Found(
        _VERDICTS.get(verdict, "permerror"),
        _mechanism(evaluation.mechanism),
        reason,
        explanation,
        evaluation.lookups,
    )


def _result(sender: Sender, domain: str, identity: Literal["mailfrom", "helo"], found: _Found) -> SpfResult:
    return SpfResult(found.verdict, domain, identity, sender.reverse_path, sender.helo, sender.ip, *found[1:])


def _identity(sender: Sender) -> tuple[str, str | None, Literal["mailfrom", "helo"]]:
    """Local part, domain and their identity (sections 2.3, 2.4 and 4.3)."""
    if not sender.reverse_path:
        return "postmaster", normal(sender.helo), "helo"
    local, _, host = sender.reverse_path.rpartition("@")
    return local or "postmaster", normal(host), "mailfrom"


@lru_cache(maxsize=4_096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


def _resolvable(name: str) -> bool:
    """True if DNS can hold the name: ASCII labels of 1 to 63 bytes (RFC 1035 section 2.3.4)."""
    return 0 < len(name) <= 253 and name.isascii() and all(0 < len(label) < 64 for label in name.split("."))


def _mechanism(mechanism: Any) -> str:
    text = "" if mechanism is None else str(mechanism)
    return text[:MAX_TERM] if text.isascii() and text.isprintable() else ""
