"""DMARC by RFC 9989: the tree walk, the policy that applies, alignment, and the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from listener.mailauth import policy
from listener.mailauth.dns.domains import within
from listener.mailauth.dns.memo import Memo
from listener.mailauth.dns.resolver import (
    DnsAnswer,
    Outcome,
    Question,
    Resolver,
    resolve_all,
    resolve_one,
)
from listener.mailauth.policy import Record
from listener.mailauth.results import Alignment, DmarcResult, DmarcVerdict, Policy, SignatureResult, SpfResult

MAX_QUERIES: Final = 8
"""Most names to query in one tree walk (RFC 9989 section 4.10)."""

_STRICTNESS: Final[Mapping[Policy, int]] = {"none": 0, "quarantine": 1, "reject": 2}


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The domains that authenticated, and those that may have, because DNS did not answer."""

    spf: tuple[str, ...] = ()
    spf_pending: tuple[str, ...] = ()
    dkim: tuple[str, ...] = ()
    dkim_pending: tuple[str, ...] = ()

    @classmethod
    def of(cls, spf: SpfResult, dkim: Iterable[SignatureResult]) -> Identifiers:
        """The domains of one mail's results."""
        passed: dict[str, None] = {}
        pending: dict[str, None] = {}
        for signature in dkim:
            if signature.domain and signature.verdict in ("pass", "temperror"):
                (passed if signature.verdict == "pass" else pending)[signature.domain] = None
        domain = (spf.domain,) if spf.domain else ()
        return cls(
            domain if spf.verdict == "pass" else (),
            domain if spf.verdict == "temperror" else (),
            tuple(passed),
            tuple(pending),
        )


@dataclass(frozen=True, slots=True)
class Walk:
    """One tree walk: the records found, longest name first, and the Organizational Domain.

    `failure` is the reason of DNS if the walk is incomplete; `organizational_domain` is then None. `psd`
    is the Public Suffix Domain that ended it.
    """

    domain: str
    records: Mapping[str, Record]
    organizational_domain: str | None
    psd: str | None = None
    failure: str = ""
    unknown: frozenset[str] = frozenset()
    """Names whose records DNS did not return."""


def walk_names(domain: str) -> list[str]:
    """The names that a walk queries, longest first (section 4.10)."""
    labels = domain.split(".")
    start = 1 if len(labels) < MAX_QUERIES else len(labels) - MAX_QUERIES + 1
    return [domain, *(".".join(labels[at:]) for at in range(start, len(labels)))]


@lru_cache(maxsize=1_024)
def walk_questions(domain: str) -> tuple[Question, ...]:
    """The questions of a walk, in the order of `walk_names`."""
    return tuple(Question(policy.PREFIX + name, "TXT") for name in walk_names(domain))


async def walk(resolver: Resolver, domain: str) -> Walk:
    """Walk up from a domain, with one concurrent query for each name."""
    return walk_up(domain, await resolve_all(resolver, walk_questions(domain)))


def walk_up(domain: str, answers: Mapping[Question, DnsAnswer]) -> Walk:
    """The walk from a domain whose `walk_questions` have these answers."""
    found = _memo.get(domain, answers.get)
    if found is None:
        questions = walk_questions(domain)
        found = _walk_up(domain, questions, answers)
        _memo.put(domain, {question: answers[question] for question in questions}, found)
    return found


_memo: Final = Memo[str, Walk]()
"""The walks from the domains of the last authors."""


def _walk_up(domain: str, questions: Sequence[Question], answers: Mapping[Question, DnsAnswer]) -> Walk:
    names = [question.name.removeprefix(policy.PREFIX) for question in questions]
    records: dict[str, Record] = {}
    unknown: set[str] = set()
    organizational: str | None = None
    failure = ""
    for name, question in zip(names, questions, strict=True):
        answer = answers[question]
        if answer.failed:
            unknown.add(name)
            failure = failure or answer.reason
            continue
        found = [record for record in map(policy.parse, answer.texts) if record is not None]
        if len(found) != 1:  # several records count as none
            continue
        records[name] = record = found[0]
        psd = None
        if record.psd == "n":
            organizational = name
        elif record.psd == "y" and name != domain:
            psd = name
            organizational = ".".join(domain.split(".")[-(name.count(".") + 2) :])
        else:
            organizational = name  # unless a shorter one follows
            if record.psd != "y":
                continue
        # psd=y or psd=n ends the walk, so missing answers for shorter names do not matter.
        longer = unknown.intersection(names[: names.index(name)])
        return Walk(
            domain,
            records,
            None if longer else organizational,
            psd,
            failure if longer else "",
            frozenset(longer),
        )
    organizational = None if unknown else organizational or domain
    return Walk(domain, records, organizational, None, failure, frozenset(unknown))


@dataclass(frozen=True, slots=True)
class _Applied:
    """The record that applies to an author domain, and its policy; `policies` holds several if the
    policy depends on whether the domain exists, and DNS did not say."""

    record: Record
    domain: str
    policies: tuple[Policy, ...]


class _Pending(Exception):
    """The reason for a temporary failure."""


async def evaluate(
    resolver: Resolver, up: Walk, identifiers: Identifiers, *, enforced: Record | None = None
) -> DmarcResult:
    """Evaluate one author domain's policy for the authenticated domains. `up` is the domain's walk.

    `enforced` takes the place of the record that DNS has for the author domain.
    """
    applied: _Applied | None
    pending = ""
    if enforced is not None:
        applied = _Applied(enforced, "", (_effective(enforced, enforced.policy),))
    else:
        try:
            applied = await _discover(resolver, up)
        except _Pending as error:
            applied, pending = None, str(error)
        else:
            if applied is None:
                return _result(up, "none", reason="no policy")
            if not applied.record.applies:
                return _result(up, "none", reason="malformed policy")
    record = applied.record if applied else None
    spf, spf_pending = await _align(
        resolver, up, identifiers.spf, identifiers.spf_pending, strict=record.spf_strict if record else None
    )
    dkim, dkim_pending = await _align(
        resolver,
        up,
        identifiers.dkim,
        identifiers.dkim_pending,
        strict=record.dkim_strict if record else None,
    )
    verdict: DmarcVerdict = "fail"
    reason = ""
    worst: Policy = "none"
    if applied is None:
        # The same domain is aligned under any policy; else nothing is known.
        verdict, reason = "temperror", pending
        worst = "none" if "strict" in (spf, dkim) else "reject"
    elif spf != "none" or dkim != "none":
        verdict = "pass"
    else:
        worst = max(applied.policies, key=_STRICTNESS.__getitem__)
        if spf_pending or dkim_pending:
            verdict, reason = "temperror", up.failure or "an identifier could not be checked"
        elif len(applied.policies) > 1:
            verdict, reason = "temperror", "the policy depends on what DNS does not tell"
    return _result(
        up, verdict, applied, spf=spf, dkim=dkim, worst=worst, reason=reason, enforced=enforced is not None
    )


def _result(
    up: Walk,
    verdict: DmarcVerdict,
    applied: _Applied | None = None,
    *,
    spf: Alignment = "none",
    dkim: Alignment = "none",
    worst: Policy = "none",
    reason: str = "",
    enforced: bool = False,
) -> DmarcResult:
    return DmarcResult(
        verdict=verdict,
        domain=up.domain,
        policy=applied.policies[0] if applied and len(applied.policies) == 1 else None,
        worst=worst,
        policy_domain=applied.domain if applied else "",
        organizational_domain=up.organizational_domain or "",
        spf=spf,
        dkim=dkim,
        testing=applied is not None and applied.record.testing,
        enforced=enforced,
        reason=reason,
    )


async def _discover(resolver: Resolver, up: Walk) -> _Applied | None:
    """Policy discovery (section 4.10.1). Raises _Pending."""
    author = up.domain
    if author in up.records:
        record = up.records[author]
        return _Applied(record, author, (_effective(record, record.policy),))
    if author in up.unknown or up.organizational_domain is None:
        raise _Pending(up.failure)
    for domain in (up.organizational_domain, up.psd):
        if domain is not None and domain in up.records:
            record = up.records[domain]
            return _Applied(record, domain, await _below(resolver, record, author))
    return None


async def _below(resolver: Resolver, record: Record, author: str) -> tuple[Policy, ...]:
    """A record's policy for a domain below its own: sp, np or p."""
    existing = _effective(record, record.subdomains or record.policy)
    if record.nonexistent is None:
        return (existing,)
    nonexistent = _effective(record, record.nonexistent)
    if nonexistent == existing:
        return (existing,)
    # Section 3.2.13: a domain for which DNS says NXDOMAIN does not exist, whatever the type.
    answer = await resolve_one(resolver, Question(author, "A"))
    if answer.failed:
        return (existing, nonexistent)
    return (nonexistent if answer.outcome is Outcome.ABSENT else existing,)


def _effective(record: Record, of: Policy) -> Policy:
    return policy.weakened(of) if record.testing else of


async def _align(
    resolver: Resolver,
    up: Walk,
    passed: tuple[str, ...],
    pending: tuple[str, ...],
    *,
    strict: bool | None,
) -> tuple[Alignment, bool]:
    """The closest alignment of the domains that passed, and true if a missing answer may still improve
    it.

    `strict` is None when the policy is unknown. Only identical domains are certain then.
    """
    author = up.domain
    if author in passed:
        return "strict", False
    unsure = author in pending
    if strict:
        return "none", unsure
    candidates = [d for d in (*passed, *pending) if d != author and _might_align(d, up)]
    if len(candidates) > 1:  # all names of all walks at once; the walks then find them in the cache
        await resolve_all(resolver, [question for d in candidates for question in walk_questions(d)])
    for domain in candidates:
        if strict is None or up.organizational_domain is None:
            unsure = True
            continue
        other = await walk(resolver, domain)
        if other.organizational_domain is None:
            unsure = True
        elif other.organizational_domain == up.organizational_domain:
            if domain in passed:
                return "relaxed", False
            unsure = True
    return "none", unsure


def _might_align(domain: str, up: Walk) -> bool:
    """True if two domains can have one Organizational Domain at all: both lie within it."""
    if up.organizational_domain is not None:
        return within(domain, up.organizational_domain)
    return domain.rpartition(".")[2] == up.domain.rpartition(".")[2]


def by_severity(results: Iterable[DmarcResult]) -> tuple[DmarcResult, ...]:
    """The result that decides first: certain failures, then possible ones, strictest policy first
    (section 11.5: the most strict policy of the checks that fail)."""
    rank = {"fail": 3, "permerror": 2, "temperror": 1}

    def weight(result: DmarcResult) -> tuple[int, int]:
        return _STRICTNESS[result.worst], rank.get(result.verdict, 0)

    return tuple(sorted(results, key=weight, reverse=True))
