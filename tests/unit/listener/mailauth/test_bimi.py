"""BIMI: the record of the author domain, and when it is looked up at all."""

from __future__ import annotations

from typing import Any, Final

import pytest

from listener.mailauth import bimi
from listener.mailauth.dkim.fields import HeaderBlock
from listener.mailauth.dmarc import Identifiers, evaluate, walk
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.results import BimiResult

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
