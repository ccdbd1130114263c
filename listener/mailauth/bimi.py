"""BIMI: the indicator that an author domain asserts, if DMARC permits it.

The check looks up only the DNS record (draft-brand-indicators-for-message-identification, sections 4 and
7). It fetches nothing from the record's URLs, because a mail must not make the relay connect anywhere.
"""

from __future__ import annotations

import re
from typing import Final

from listener.mailauth.dkim import tags
from listener.mailauth.dkim.fields import HeaderBlock, value_of
from listener.mailauth.dmarc import Walk
from listener.mailauth.dns.domains import normal_octets
from listener.mailauth.dns.resolver import Outcome, Question, Resolver, resolve_one
from listener.mailauth.policy import Record
from listener.mailauth.results import BimiResult, DmarcResult

DEFAULT_SELECTOR: Final = "default"
MAX_RECORD: Final = 4_096
MAX_SELECTOR_FIELD: Final = 1_024

_HTTPS: Final = re.compile(rb"https://[!-~]{1,2000}")


async def check(
    resolver: Resolver, block: HeaderBlock, dmarc: DmarcResult, walked: Walk, *, partly_signed: bool = False
) -> BimiResult:
    """Check the assertion of one mail's author domain, given its DMARC result and tree walk.

    `partly_signed` says that the aligned signatures omit text of the body. Anyone can have added that
    text (RFC 6376 section 8.2), so the indicator does not count.
    """
    if dmarc.verdict != "pass":
        return BimiResult("skipped", "DMARC did not pass")
    if partly_signed:
        return BimiResult("skipped", "part of the body is not signed")
    domains = tuple(dict.fromkeys((dmarc.domain, walked.organizational_domain or dmarc.domain)))
    records = [walked.records[domain] for domain in domains if domain in walked.records]
    if not records or not all(map(_enforces, records)):
        return BimiResult("skipped", "DMARC policy is not enforced")
    selector = selector_of(block)
    for domain in domains:
        found = await _lookup(resolver, selector, domain)
        if found is not None:
            return found
    return BimiResult("none", "no record", domain=dmarc.domain, selector=selector)


def _enforces(record: Record) -> bool:
    """True if DMARC enforces a policy for a domain and its subdomains, and not as a test (section
    7.1)."""
    return record.policy != "none" and record.subdomains != "none" and not record.testing


async def _lookup(resolver: Resolver, selector: str, domain: str) -> BimiResult | None:
    answer = await resolve_one(resolver, Question(f"{selector}._bimi.{domain}", "TXT"))
    if answer.failed:
        return BimiResult("temperror", answer.reason, domain=domain, selector=selector)
    if answer.outcome is not Outcome.FOUND:
        return None
    records = []
    for text in answer.texts:
        try:
            record = tags.parse(text) if len(text) <= MAX_RECORD else {}
        except tags.TagError:
            continue
        if record.get(b"v") == b"BIMI1" and next(iter(record)) == b"v":
            records.append(record)
    if not records:
        return None
    if len(records) > 1:
        return BimiResult("fail", "several records", domain=domain, selector=selector)
    location, evidence = records[0].get(b"l", b""), records[0].get(b"a", b"")
    if b"l" in records[0] and not location and not evidence:
        return BimiResult("declined", domain=domain, selector=selector)
    if not _HTTPS.fullmatch(location) or (evidence and not _HTTPS.fullmatch(evidence)):
        return BimiResult("fail", "malformed record", domain=domain, selector=selector)
    return BimiResult(
        "pass", domain=domain, selector=selector, location=location.decode(), evidence=evidence.decode()
    )


def selector_of(block: HeaderBlock) -> str:
    """The selector of BIMI-Selector (section 4.4), else the default."""
    fields = block.by_name.get(b"bimi-selector", ())
    if len(fields) == 1 and len(value := value_of(fields[0])) <= MAX_SELECTOR_FIELD:
        try:
            found = tags.parse(value)
        except tags.TagError:
            return DEFAULT_SELECTOR
        if found.get(b"v") == b"BIMI1":
            return normal_octets(found.get(b"s", b"")) or DEFAULT_SELECTOR
    return DEFAULT_SELECTOR
