"""What is kept of a sender's mails: each mail gets the report that it would get as the first one."""

from __future__ import annotations

from typing import Any, Final

import pytest

from listener.mailauth import conclusions
from listener.mailauth.authres import authentication_results, received_spf
from listener.mailauth.check import BytesSource, Checks, begin
from listener.mailauth.dns.cache import Cache
from listener.mailauth.dns.memo import MAX_ENTRIES
from listener.mailauth.dns.resolver import DnsAnswer, Outcome, Question
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.policy import parse
from listener.mailauth.results import Report
from listener.mailauth.spf import Sender
from tests.support.mails.signer import arc_set, record, rsa_key, sign

NOW: Final = 1_750_000_000.0
US: Final = "mx.receiver.example"
ANN: Final = Sender("192.0.2.1", "mx.example.com", "ann@example.com", US)
HEAD: Final = (
    b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: hello\r\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n"
)
MAIL: Final = HEAD + b"\r\nHi Bob\r\n"
ZONE: Final[dict[str, Any]] = {
    "sel._domainkey.example.com": {"TXT": [record(rsa_key())]},
    "sel._domainkey.other.example": {"TXT": [record(rsa_key())]},
    "example.com": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
    "other.example": {"TXT": ["v=spf1 ip4:198.51.100.0/24 -all"]},
    "macro.example": {"TXT": ["v=spf1 exists:%{l}.in.example -all"]},
    "ann.in.example": {"A": ["127.0.0.2"]},
    "mx.example.com": {"TXT": ["v=spf1 a -all"], "A": ["192.0.2.1"]},
    "broken.example": {"TXT": "SERVFAIL"},
    "_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject"]},
    "default._bimi.example.com": {"TXT": ["v=BIMI1; l=https://example.com/logo.svg"]},
    "v2._bimi.example.com": {"TXT": ["v=BIMI1; l=https://example.com/2.svg"]},
}


def found(mail: bytes, sender: Sender, resolver: Any, checks: Checks) -> Report:
    report = begin(BytesSource(mail), sender, resolver, checks, now=NOW)
    assert isinstance(report, Report)
    return report


SIGNED: Final = sign(MAIL)
MAILS: Final = {
    "signed": SIGNED,
    "signed twice": sign(SIGNED),
    "signed by another": sign(MAIL, d="other.example"),
    "signed in part": sign(MAIL, length=2) + b"more\r\n",
    "changed": SIGNED + b"more\r\n",
    "unsigned": MAIL,
    "of another author": MAIL.replace(b"ann@example.com", b"eve@other.example"),
    "of two authors": MAIL.replace(b"ann@example.com>", b"ann@example.com>, eve@other.example"),
    "with a selector": b"BIMI-Selector: v=BIMI1; s=v2\r\n" + SIGNED,
    "sealed": arc_set(SIGNED, 1),
    "with a broken seal": b"ARC-Seal: i=1\r\n" + SIGNED,
    "signed too often": sign(sign(sign(sign(SIGNED)))),
}
SENDERS: Final = {
    "the author": ANN,
    "a colleague": Sender("192.0.2.1", "mx.example.com", "bob@example.com", US),
    "another server": Sender("192.0.2.1", "mx2.example.com", "ann@EXAMPLE.com", US),
    "another client": Sender("203.0.113.9", "mx.example.com", "ann@example.com", US),
    "another domain": Sender("192.0.2.1", "mx.example.com", "ann@other.example", US),
    "the null sender": Sender("192.0.2.1", "mx.example.com", "", US),
    "a server without a name": Sender("192.0.2.1", "x", "", US),
    "a name as an address": Sender("192.0.2.1", "example.com", "mx.example.com", US),
    "macros": Sender("192.0.2.1", "mx.example.com", "ann@macro.example", US),
    "macros of another": Sender("192.0.2.1", "mx.example.com", "eve@macro.example", US),
    "a long local part": Sender("192.0.2.1", "mx.example.com", "x" * 300 + "@example.com", US),
    "a broken domain": Sender("192.0.2.1", "mx.example.com", "ann@broken.example", US),
}


@pytest.mark.parametrize("first", ["the author", "another client", "the null sender", "macros"])
@pytest.mark.parametrize("options", [{}, {"enforced": parse(b"v=DMARC1; p=none")}, {"dmarc": False}], ids=str)
def test_no_report_depends_on_the_mails_before_it(first: str, options: dict[str, Any]) -> None:
    checks, resolver = Checks(explain=True, **options), MemoryResolver(ZONE)
    for mail in MAILS.values():
        found(mail, SENDERS[first], resolver, checks)
    for _ in range(2):
        for name, mail in MAILS.items():
            for whose, sender in SENDERS.items():
                fresh = found(mail, sender, MemoryResolver(ZONE), Checks(explain=True, **options))
                report = found(mail, sender, resolver, checks)
                assert report == fresh, (name, whose)
                assert report.to_json() == fresh.to_json(), (name, whose)
                assert authentication_results(report, US) == authentication_results(fresh, US)
                assert received_spf(report.spf, US) == received_spf(fresh.spf, US)


def test_the_same_again_is_not_concluded_again() -> None:
    checks, resolver = Checks(), MemoryResolver(ZONE)
    first, again = [found(SIGNED, ANN, resolver, checks) for _ in range(2)]
    assert len(checks.conclusions) == 1
    assert again.dmarc is first.dmarc
    assert again.bimi is first.bimi
    assert again == first


def test_a_record_that_changed_is_seen() -> None:
    checks, cache = Checks(), Cache()

    class Dns(MemoryResolver):
        def known(self, question: Question) -> DnsAnswer | None:
            return cache.get(question)

    def learn(zone: dict[str, Any]) -> None:
        source = MemoryResolver(zone)
        for name, kinds in (ZONE | {"_dmarc.com": {"TXT": []}}).items():
            for kind in kinds:
                question = Question(name, kind)
                answer = source.known(question)
                assert answer is not None
                cache.put(question, answer if answer.ttl else DnsAnswer(Outcome.ABSENT, ttl=300.0))

    learn(ZONE)
    assert found(SIGNED, ANN, Dns({}), checks).dmarc[0].policy == "reject"
    assert found(SIGNED, ANN, Dns({}), checks).dmarc[0].policy == "reject"
    learn(ZONE | {"_dmarc.example.com": {"TXT": ["v=DMARC1; p=quarantine"]}})
    assert found(SIGNED, ANN, Dns({}), checks).dmarc[0].policy == "quarantine"
    learn(ZONE | {"example.com": {"TXT": ["v=spf1 -all"]}})
    assert found(SIGNED, ANN, Dns({}), checks).spf.verdict == "fail"
    learn(ZONE | {"default._bimi.example.com": {"TXT": ["v=BIMI1; l=;"]}})
    assert (
        found(SIGNED, ANN, Dns({}), checks).bimi
        == found(
            SIGNED,
            ANN,
            MemoryResolver(ZONE | {"default._bimi.example.com": {"TXT": ["v=BIMI1; l=;"]}}),
            Checks(),
        ).bimi
    )


def test_a_source_that_says_of_all_answers_if_it_holds_them_is_asked_so() -> None:
    checks, resolver = Checks(), MemoryResolver(ZONE)
    first = found(SIGNED, ANN, resolver, checks)
    asked = []

    def holds(answers: Any) -> bool:
        asked.append({question.name for question, _ in answers})
        return len(asked) == 1

    again = begin(BytesSource(SIGNED), ANN, resolver, checks, now=NOW, holds=holds)
    anew = begin(BytesSource(SIGNED), ANN, resolver, checks, now=NOW, holds=holds)
    assert again == anew == first
    assert isinstance(again, Report)
    assert isinstance(anew, Report)
    assert again.dmarc is first.dmarc
    assert anew.dmarc is not first.dmarc
    assert asked[0] >= {"example.com", "_dmarc.example.com", "default._bimi.example.com"}


@pytest.mark.parametrize("name", ["example.com", "_dmarc.example.com", "default._bimi.example.com"])
def test_an_answer_whose_time_is_over_is_asked_for_again(name: str) -> None:
    checks, resolver = Checks(), MemoryResolver(ZONE)
    found(SIGNED, ANN, resolver, checks)
    expired = Question(name, "TXT")

    class Forgot(MemoryResolver):
        def known(self, question: Question) -> DnsAnswer | None:
            return None if question == expired else resolver.known(question)

    waits = begin(BytesSource(SIGNED), ANN, Forgot({}), checks, now=NOW)
    assert not isinstance(waits, Report)
    waits.close()  # type: ignore[attr-defined]  # a coroutine, which asks the DNS


@pytest.mark.parametrize(
    ("zone", "sender"),
    [
        ({}, SENDERS["a broken domain"]),
        ({"_dmarc.example.com": {"TXT": "SERVFAIL"}}, ANN),
        ({"sel._domainkey.example.com": {"TXT": "SERVFAIL"}}, ANN),
        ({"default._bimi.example.com": {"TXT": "SERVFAIL"}}, ANN),
        ({}, SENDERS["macros"]),
        ({}, SENDERS["a long local part"]),
    ],
    ids=["SPF", "DMARC", "a key", "BIMI", "macros", "a long local part"],
)
def test_failures_and_what_depends_on_more_are_never_kept(zone: dict[str, Any], sender: Sender) -> None:
    checks = Checks()
    found(SIGNED, sender, MemoryResolver(ZONE | zone), checks)
    assert not len(checks.conclusions)


def test_options_have_conclusions_of_their_own() -> None:
    resolver = MemoryResolver(ZONE)
    lax, strict = Checks(enforced=parse(b"v=DMARC1; p=none")), Checks()
    assert found(SIGNED, ANN, resolver, lax).dmarc[0].policy == "none"
    assert found(SIGNED, ANN, resolver, strict).dmarc[0].policy == "reject"


def test_the_conclusions_are_bounded() -> None:
    checks, resolver = Checks(), MemoryResolver(ZONE)
    for number in range(MAX_ENTRIES + 10):
        sender = Sender(f"10.0.{number // 256}.{number % 256}", "mx.example.com", "ann@example.com", US)
        found(MAIL, sender, resolver, checks)
    assert len(checks.conclusions) == MAX_ENTRIES
    many = found(MAILS["signed too often"], ANN, resolver, checks).dkim
    assert len(many) > conclusions.MAX_SIGNATURES
    assert conclusions.key_of(ANN, ("example.com",), "default", many) is None
