"""BIMI: the record of the author domain, and when it is looked up."""

from __future__ import annotations

from typing import Any, Final

import pytest

from listener.mailauth import bimi
from listener.mailauth.authres import authentication_results
from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dkim.fields import HeaderBlock
from listener.mailauth.dmarc import Identifiers, evaluate, walk
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.results import BimiResult, Report
from listener.mailauth.spf import Sender
from tests.support.mails.signer import ed25519_key, record, rsa_key, sign

LOGO: Final = "v=BIMI1; l=https://example.com/logo.svg; a=https://example.com/vmc.pem"


async def found(
    records: dict[str, Any],
    author: str = "example.com",
    policy: str = "v=DMARC1; p=reject",
    selector: bytes = b"",
    signed: str = "example.com",
    **policies: str,
) -> BimiResult:
    zone = {f"{name}": {"TXT": [text]} if isinstance(text, str) else text for name, text in records.items()}
    zone["_dmarc.example.com"] = {"TXT": [policy]}
    zone |= {f"_dmarc.{name.replace('_', '.')}": {"TXT": [text]} for name, text in policies.items()}
    resolver = MemoryResolver(zone)
    walked = await walk(resolver, author)
    judged = await evaluate(resolver, walked, Identifiers(dkim=(signed,)))
    head = b"From: a@b\r\n" + (b"BIMI-Selector: " + selector + b"\r\n" if selector else b"")
    result = await bimi.check(resolver, HeaderBlock(head), judged, walked)
    if result.verdict == "skipped":
        assert not any("_bimi" in question.name for question in resolver._made)
    return result


async def test_a_record() -> None:
    result = await found({"default._bimi.example.com": LOGO})
    assert result == BimiResult(
        "pass", "", "example.com", "default", "https://example.com/logo.svg", "https://example.com/vmc.pem"
    )


async def test_the_organizational_domain_stands_in() -> None:
    result = await found({"default._bimi.example.com": LOGO}, author="news.example.com")
    assert (result.verdict, result.domain) == ("pass", "example.com")
    own = {"default._bimi.news.example.com": LOGO, "default._bimi.example.com": "v=BIMI1; l=; a="}
    assert (await found(own, author="news.example.com")).domain == "news.example.com"


@pytest.mark.parametrize(
    "policy",
    [
        "v=DMARC1; p=none",
        "v=DMARC1; p=reject; sp=none",
        "v=DMARC1; p=reject; t=y",
        "v=DMARC1; p=quarantine; t=y",
    ],
)
async def test_policies_that_are_not_enforced(policy: str) -> None:
    assert (await found({"default._bimi.example.com": LOGO}, policy=policy)).verdict == "skipped"


async def test_both_domains_must_enforce() -> None:
    records = {"default._bimi.example.com": LOGO}
    weak = {"news_example_com": "v=DMARC1; p=none"}
    assert (await found(records, author="news.example.com", **weak)).verdict == "skipped"
    strong = {"news_example_com": "v=DMARC1; p=quarantine"}
    assert (await found(records, author="news.example.com", **strong)).verdict == "pass"


async def test_dmarc_must_pass() -> None:
    assert (await found({"default._bimi.example.com": LOGO}, signed="example.net")).verdict == "skipped"


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        ("v=BIMI1; l=https://example.com/logo.svg", "pass"),
        ("v=BIMI1; l=; a=", "declined"),
        ("v=BIMI1; l=;", "declined"),
        ("v=BIMI1; l=http://example.com/logo.svg", "fail"),
        ("v=BIMI1; l=javascript:alert(1)", "fail"),
        ("v=BIMI1; l=https://example.com/a b.svg", "fail"),
        ("v=BIMI1; a=https://example.com/vmc.pem", "fail"),
        ("v=BIMI1; l=https://example.com/logo.svg; a=ftp://x", "fail"),
        ("v=BIMI2; l=https://example.com/logo.svg", "none"),
        ("l=https://example.com/logo.svg; v=BIMI1", "none"),
        ("hello", "none"),
        ("v=BIMI1; l=https://example.com/" + "x" * 5000, "none"),
        ({"TXT": [LOGO, LOGO]}, "fail"),
        ({"*": "SERVFAIL"}, "temperror"),
        ({"A": ["192.0.2.1"]}, "none"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_records(record: Any, verdict: str) -> None:
    assert (await found({"default._bimi.example.com": record})).verdict == verdict


@pytest.mark.parametrize(
    ("field", "selector"),
    [
        (b"v=BIMI1; s=brand", "brand"),
        (b"v=BIMI1; s=Brand", "brand"),
        (b"v=BIMI1; s=", "default"),
        (b"v=BIMI1; s=a/b", "default"),
        (b"s=brand", "default"),
        (b"x" * 2000, "default"),
        (b"\xff", "default"),
    ],
)
async def test_selectors(field: bytes, selector: str) -> None:
    result = await found({f"{selector}._bimi.example.com": LOGO}, selector=field)
    assert (result.verdict, result.selector) == ("pass", selector)


# -- signatures that leave text unsigned (RFC 6376 section 8.2) -----------------------------------

BODY: Final = b"Signed text.\r\n"
SIGNED: Final = (
    b"From: Ann <ann@news.example.com>\r\nTo: bob@example.net\r\nSubject: hello\r\nDate: x\r\n\r\n" + BODY
)
ZONE: Final[dict[str, Any]] = {
    "default._bimi.example.com": {"TXT": [LOGO]},
    "_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject"]},
    "news.example.com": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
    "other.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
    **{f"sel._domainkey.{d}": {"TXT": [record(rsa_key())]} for d in ("example.com", "news.example.com")},
    "sel._domainkey.other.example": {"TXT": [record(rsa_key())]},
    "ed._domainkey.example.com": {"TXT": [record(ed25519_key())]},
}
APPENDED: Final = b"Text of another author.\r\n"


async def checked(mail: bytes, sender: str = "", **changes: Any) -> Report:
    resolver = MemoryResolver(ZONE | changes)
    client = Sender("192.0.2.1", "h.test", sender, "mx.test")
    report = await check(BytesSource(mail), client, resolver, Checks())
    assert report.bimi is not None
    assert report.dmarc[0].verdict == "pass"
    assert report.bimi.verdict in ("pass", "skipped")
    if report.bimi.verdict == "skipped":
        assert report.bimi.location == report.bimi.evidence == ""
        assert "bimi=skipped" in authentication_results(report, "mx.test")
        assert not any("_bimi" in question.name for question in resolver._made)
    return report


@pytest.mark.parametrize("canon", ["relaxed/relaxed", "simple/simple", "relaxed/simple"])
@pytest.mark.parametrize("domain", ["example.com", "news.example.com"])
@pytest.mark.parametrize("length", [0, 5, len(BODY)])
async def test_text_that_no_aligned_signature_covers_shows_no_indicator(
    canon: str, domain: str, length: int
) -> None:
    mail = sign(SIGNED, l=length, c=canon, d=domain) + APPENDED
    report = await checked(mail)
    assert report.dkim[0].verdict == "pass"
    assert report.bimi == BimiResult("skipped", "part of the body is not signed")


async def test_not_even_where_spf_passes_too() -> None:
    report = await checked(sign(SIGNED, l=5), sender="ann@news.example.com")
    assert report.dmarc[0].spf != "none"
    assert report.bimi is not None
    assert report.bimi.verdict == "skipped"


async def test_an_aligned_signature_over_the_whole_body_counts() -> None:
    whole = sign(SIGNED)
    for mail in (
        whole,
        sign(SIGNED, l=len(BODY)),  # all of it, as it happens
        sign(SIGNED, l=len(BODY)) + b"\r\n\r\n",  # empty lines at the end are no text
        sign(whole, l=5),
        sign(sign(SIGNED, l=5)),
        sign(sign(SIGNED, l=5), ed25519_key(), s="ed"),
    ):
        report = await checked(mail)
        assert report.bimi is not None
        assert report.bimi.verdict == "pass", mail


async def test_other_domains_signatures_do_not_count_for_or_against() -> None:
    other = sign(sign(SIGNED, l=5), d="other.example")
    assert (await checked(other)).bimi == BimiResult("skipped", "part of the body is not signed")
    report = await checked(sign(sign(SIGNED), d="other.example", l=5))
    assert report.bimi is not None
    assert report.bimi.verdict == "pass"


async def test_a_signature_that_does_not_verify_covers_nothing() -> None:
    broken = sign(sign(SIGNED, l=5), ed25519_key(), s="gone") + APPENDED
    report = await checked(broken)
    assert [result.verdict for result in report.dkim] == ["permerror", "pass"]
    assert report.bimi is not None
    assert report.bimi.verdict == "skipped"


async def test_spf_alone_is_enough() -> None:
    """The draft asks for a DMARC pass; without a signature nothing is left unsigned."""
    report = await checked(SIGNED, sender="ann@news.example.com")
    assert report.bimi is not None
    assert report.bimi.verdict == "pass"
