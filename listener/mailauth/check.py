"""All checks of one mail, within one time limit and a number of DNS queries.

SPF, DKIM and DMARC come first, and concurrently, because they decide. BIMI and ARC, which inform, get what
is left of both limits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from functions.message.headers import head_size
from listener.mailauth import bimi, conclusions, dmarc, spf
from listener.mailauth.authors import Authors
from listener.mailauth.conclusions import Conclusions
from listener.mailauth.dkim.arc import Chain
from listener.mailauth.dkim.digests import BodyHashes
from listener.mailauth.dkim.verify import KeyRules
from listener.mailauth.dmarc import Identifiers, Walk
from listener.mailauth.dns.memo import Memo
from listener.mailauth.dns.resolver import (
    AnswerMissing,
    Deadline,
    DnsAnswer,
    Holds,
    KnownAnswers,
    QueryBudget,
    Question,
    Resolver,
    resolve_all,
)
from listener.mailauth.header import ReadHeader
from listener.mailauth.policy import Record
from listener.mailauth.results import (
    ArcResult,
    BimiResult,
    DmarcResult,
    Report,
    Shared,
    SignatureResult,
    SpfResult,
)
from listener.mailauth.spf import Sender, SpfLimits

_log = logging.getLogger("smtp_relay.mailauth")

TIME_LIMIT: Final = 20.0
"""Seconds for all checks of a mail; later answers count as temporary failures."""

MAX_QUERIES: Final = 60
"""Most questions that the checks of a mail ask the DNS; what else they need is a temporary failure."""

THREAD_SIZE: Final = 262_144
"""From this size in bytes a thread reads and hashes the mail: 5 MB take some 15 ms."""

THREAD_HEAD: Final = 65_536
"""From this size in bytes a thread parses the header."""

THREAD_SIGNATURES: Final = 8
"""From this number of keys a thread verifies the signatures."""

P = ParamSpec("P")
T = TypeVar("T")

_CHUNK: Final = 65_536  # below malloc's threshold for a new mapping; larger chunks take longer


class MailSource(Protocol):
    """The mail to check: its header block, with or without the final empty line, and all of its bytes,
    from `chunks` or whole."""

    @property
    def head(self) -> bytes: ...

    @property
    def size(self) -> int: ...

    @property
    def crlf(self) -> bool:
        """True if it is known to have no CR or LF but in CRLFs."""

    def chunks(self, size: int = ...) -> Iterator[bytes]: ...

    def content(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class BytesSource:
    """A mail in memory, with CRLF line ends."""

    data: bytes
    head: bytes = field(init=False)
    size: int = field(init=False)
    crlf: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "head", self.data[: head_size(self.data)])
        object.__setattr__(self, "size", len(self.data))

    def content(self) -> bytes:
        return self.data

    def chunks(self, size: int = _CHUNK) -> Iterator[bytes]:
        for at in range(0, len(self.data), size):
            yield self.data[at : at + size]


@dataclass(frozen=True, slots=True)
class Checks:
    """Options of the checks. `enforced` replaces the author domain's DMARC record."""

    arc: bool = True
    dmarc: bool = True
    bimi: bool = True
    keys: KeyRules = field(default_factory=KeyRules)
    spf: SpfLimits = field(default_factory=SpfLimits)
    enforced: Record | None = None
    explain: bool = False
    time_limit: float = TIME_LIMIT
    max_queries: int = MAX_QUERIES
    conclusions: Conclusions = field(default_factory=Memo, compare=False, repr=False)
    """What these checks concluded for the last senders."""


_Read = tuple[ReadHeader, BodyHashes]
_Asked = tuple[SpfResult, dict[Question, DnsAnswer], list[Walk]]


async def check(
    mail: MailSource, sender: Sender, resolver: Resolver, checks: Checks, *, now: float | None = None
) -> Report:
    """Run all checks on one mail, as `begin` does, and return their report."""
    found = begin(mail, sender, resolver, checks, now=now)
    return found if isinstance(found, Report) else await found


def begin(
    mail: MailSource,
    sender: Sender,
    resolver: Resolver,
    checks: Checks,
    *,
    now: float | None = None,
    holds: Holds | None = None,
) -> Report | Awaitable[Report]:
    """Run all checks on one mail: the report at once if the mail is small, has few signatures, and all
    answers of the DNS are known, as those of busy senders are. `now` is Unix time, for signatures that
    expire; `holds` says if the resolver knows some answers.

    Waits at most `checks.time_limit` seconds for DNS, asks it at most `checks.max_queries` questions, and
    does not block the event loop: a thread reads a large mail. Raises nothing but CancelledError; an error
    in a check is a temporary failure.
    """
    now = time.time() if now is None else now
    read: _Read | None = None
    try:
        head = mail.head
        if mail.size <= THREAD_SIZE and len(head) <= THREAD_HEAD:
            header = ReadHeader(head, checks, now, crlf=mail.crlf)
            read = header, _hash_body(mail, head, header)
            if header.keys <= THREAD_SIGNATURES:
                return _known(sender, resolver, checks, read, holds)
    except AnswerMissing:
        pass  # the DNS has to be asked
    except Exception:  # noqa: BLE001 - a stranger's mail caused the error
        return _failed(sender, checks)
    return _begun(mail, sender, resolver, checks, now, read)


def _known(sender: Sender, resolver: Resolver, checks: Checks, read: _Read, holds: Holds | None) -> Report:
    """The report of a small mail. Raises AnswerMissing if the DNS has to be asked."""
    header, bodies = read
    key: conclusions.Key | None = None
    chain, signatures, domains = header.chain, header.signatures, header.authors.domains
    if (chain is None or not chain.keys) and header.authors.complete and len(domains) <= 1:
        answers: dict[Question, DnsAnswer] = {}
        known_answer = resolver.known
        for question in signatures.questions:
            answer = known_answer(question)
            if answer is None:
                raise AnswerMissing
            answers[question] = answer
        dkim = signatures.judge(answers, bodies)
        key = conclusions.key_of(sender, domains, bimi.selector_of(header.block), dkim)
        found = None if key is None else checks.conclusions.get(key, known_answer, holds)
        if found is not None:
            return Report(
                found.spf.of_another(sender.reverse_path, sender.helo, sender.ip),
                dkim,
                signatures.count,
                header.no_chain if chain is None else chain.verdict_without_keys,
                found.dmarc,
                found.bimi,
                header.received,
                found.shared if chain is None else Shared(),
            )
    known = KnownAnswers(resolver)
    report = _at_once(_conclude(sender, known, checks, header, bodies))
    if key is not None:
        shared = report.shared if chain is None else Shared()
        concluded = conclusions.Conclusion(report.spf, report.dmarc, report.bimi, shared)
        conclusions.keep(checks.conclusions, key, known.answers, concluded)
    return report


def _at_once(steps: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError("the checks wait though every answer is known")


async def _begun(
    mail: MailSource, sender: Sender, resolver: Resolver, checks: Checks, now: float, read: _Read | None
) -> Report:
    """The report of a mail that needs answers of the DNS, or a thread; `read` is a small mail's."""
    within = Deadline(resolver, asyncio.get_running_loop().time() + checks.time_limit)
    bounded = QueryBudget(within, checks.max_queries)
    try:
        if read is None:
            return await _check_large(mail, sender, bounded, checks, now)
        return await _conclude(sender, bounded, checks, *read)
    except Exception:  # noqa: BLE001 - a stranger's mail caused the error
        return _failed(sender, checks)


async def _check_large(
    mail: MailSource, sender: Sender, resolver: Resolver, checks: Checks, now: float
) -> Report:
    """A thread hashes the body while the DNS is asked, and does all work on a big header."""
    head = mail.head
    big_head = len(head) > THREAD_HEAD
    header = await _run(big_head, ReadHeader, head, checks, now, crlf=mail.crlf)
    reading = asyncio.create_task(asyncio.to_thread(_hash_body, mail, head, header))
    try:
        asked = await _ask(sender, resolver, checks, header)
    finally:
        # Also when cancelled, because the thread still reads the mail.
        bodies = await reading
    return await _judge(resolver, checks, header, bodies, asked, big_head=big_head)


async def _conclude(
    sender: Sender, resolver: Resolver, checks: Checks, header: ReadHeader, bodies: BodyHashes
) -> Report:
    return await _judge(resolver, checks, header, bodies, await _ask(sender, resolver, checks, header))


async def _judge(
    resolver: Resolver,
    checks: Checks,
    header: ReadHeader,
    bodies: BodyHashes,
    asked: _Asked,
    *,
    big_head: bool = False,
) -> Report:
    spf_result, answers, walks = asked
    in_thread = big_head or len(header.signatures.questions) > THREAD_SIGNATURES
    dkim = await _run(in_thread, header.signatures.judge, answers, bodies)
    policies: tuple[DmarcResult, ...] = ()
    indicator: BimiResult | None = None
    if checks.dmarc:
        policies = await _dmarc(resolver, checks, header.authors, walks, Identifiers.of(spf_result, dkim))
        if checks.bimi and len(walks) == 1:
            partly = await _partly_signed(resolver, walks[0], dkim, checks.enforced)
            indicator = await bimi.check(resolver, header.block, policies[0], walks[0], partly_signed=partly)
    return Report(
        spf=spf_result,
        dkim=dkim,
        signatures=header.signatures.count,
        arc=await _arc(resolver, header.chain, bodies, big_head=big_head)
        if header.chain
        else header.no_chain,
        dmarc=policies,
        bimi=indicator,
        received=header.received,
    )


def _hash_body(mail: MailSource, head: bytes, header: ReadHeader) -> BodyHashes:
    wanted = header.body_hashes()
    bodies = BodyHashes(wanted)
    if wanted:
        # The empty line belongs to neither header nor body (RFC 5322 section 2.1).
        skip = len(head) + (0 if head.endswith(b"\r\n\r\n") else 2)
        if mail.size <= _CHUNK:
            bodies.take(mail.content()[skip:])
            return bodies
        for chunk in mail.chunks(_CHUNK):
            if skip < len(chunk):
                bodies.feed(chunk[skip:] if skip else chunk)
            skip = max(skip - len(chunk), 0)
        bodies.finish()
    return bodies


async def _run(in_thread: bool, judge: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(judge, *args, **kwargs) if in_thread else judge(*args, **kwargs)


async def _arc(resolver: Resolver, chain: Chain, bodies: BodyHashes, *, big_head: bool) -> ArcResult:
    """The chain's verdict. Older sets are asked for only if the newest one holds."""
    if not chain.newest_questions:
        return chain.verdict_without_keys
    answers = await resolve_all(resolver, chain.newest_questions)
    result = await _run(big_head, chain.judge_newest, answers, bodies)
    if result is None:
        older = chain.older_questions
        answers.update(await resolve_all(resolver, older))
        in_thread = big_head or len(older) > THREAD_SIGNATURES
        result = await _run(in_thread, chain.judge_older, answers, bodies)
    return result


async def _ask(sender: Sender, resolver: Resolver, checks: Checks, header: ReadHeader) -> _Asked:
    """SPF, the keys and the walks of the author domains; concurrent if any of them has to wait."""
    domains = header.authors.domains
    needed = [*header.signatures.questions]
    for domain in domains:
        needed += dmarc.walk_questions(domain)
    answers: dict[Question, DnsAnswer] = {}
    waiting = False
    for question in needed:
        answer = resolver.known(question)
        if answer is None:
            waiting = True
        else:
            answers[question] = answer
    spf_check = spf.check(
        resolver,
        sender,
        limits=checks.spf,
        explain=checks.explain,
        time_limit=min(checks.time_limit, spf.TIME_LIMIT),
    )
    if waiting:
        spf_result, answers = await asyncio.gather(spf_check, resolve_all(resolver, needed))
    else:  # no tasks, because they cost more than the checks together
        spf_result = await spf_check
    return spf_result, answers, [dmarc.walk_up(domain, answers) for domain in domains]


async def _dmarc(
    resolver: Resolver, checks: Checks, found: Authors, walks: list[Walk], identifiers: Identifiers
) -> tuple[DmarcResult, ...]:
    results = [
        await dmarc.evaluate(resolver, walked, identifiers, enforced=checks.enforced) for walked in walks
    ]
    if not found.complete:
        # RFC 9989 section 11.5: such mails hide one domain behind others.
        results.append(
            DmarcResult("permerror", worst="reject", reason="more author domains or fields than are checked")
        )
    if not results:
        results.append(DmarcResult("none", reason="no author domain"))
    return dmarc.by_severity(results)


async def _partly_signed(
    resolver: Resolver, walked: Walk, signatures: tuple[SignatureResult, ...], enforced: Record | None
) -> bool:
    """True if signatures aligned with the author's domain pass, but none of them covers the whole body
    (l=)."""

    async def aligned(of: list[SignatureResult]) -> bool:
        identifiers = Identifiers.of(SpfResult("none"), of)
        return (await dmarc.evaluate(resolver, walked, identifiers, enforced=enforced)).dkim != "none"

    passed = [signature for signature in signatures if signature.verdict == "pass"]
    partial = [signature for signature in passed if signature.unsigned_octets]
    whole = [signature for signature in passed if not signature.unsigned_octets]
    return bool(partial) and await aligned(partial) and not await aligned(whole)


def _failed(sender: Sender, checks: Checks) -> Report:
    """The report when a check itself fails: logs its exception."""
    _log.exception("mail authentication failed")
    reason = "check failed"
    return Report(
        spf=SpfResult("temperror", sender=sender.reverse_path, helo=sender.helo, ip=sender.ip, reason=reason),
        dkim=(SignatureResult("temperror", reason),),
        signatures=1,
        arc=ArcResult("temperror", reason) if checks.arc else None,
        dmarc=(DmarcResult("temperror", worst="reject", reason=reason),) if checks.dmarc else (),
        bimi=None,
        received=(),
    )
