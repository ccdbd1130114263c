"""Mails that are checked at once, because the answers of the DNS are known, and those that have to wait: both
get the same report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

import pytest

from listener.mailauth.check import THREAD_HEAD, THREAD_SIGNATURES, THREAD_SIZE, BytesSource, Checks, begin
from listener.mailauth.dns.resolver import DnsAnswer, Question
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.results import Report
from listener.mailauth.spf import Sender
from tests.support.mails.signer import arc_set, ed25519_key, record, rsa_key, sign

NOW: Final = 1_750_000_000.0
SENDER: Final = Sender("192.0.2.1", "mx.example.com", "ann@example.com", "mx.receiver.example")
HEAD: Final = (
    b"Received: from a.example (a.example [192.0.2.9])\r\n\tby mx.example.com with ESMTP id 7;\r\n\tMon\r\n"
    b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject:\r\n  hello \t you \r\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n"
)
MAIL: Final = HEAD + b"\r\nHi \t Bob \r\n\r\n\r\n"
ZONE: Final[dict[str, Any]] = {
    "sel._domainkey.example.com": {"TXT": [record(rsa_key())]},
    "ed._domainkey.example.com": {"TXT": [record(ed25519_key())]},
    "example.com": {"TXT": ["v=spf1 include:_spf.example.com -all"]},
    "_spf.example.com": {"TXT": ["v=spf1 ip4:192.0.2.0/24 ~all"]},
    "_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject"]},
    "default._bimi.example.com": {"TXT": ["v=BIMI1; l=https://example.com/logo.svg"]},
    "other.example": {"TXT": ["v=spf1 mx exists:%{l}.other.example -all"]},
    "_dmarc.other.example": {"TXT": "SERVFAIL"},
}


class Unknown(MemoryResolver):
    """Knows no answer before it is asked for."""

    def known(self, question: Question) -> DnsAnswer | None:
        return None

    async def resolve(self, question: Question) -> DnsAnswer:
        await asyncio.sleep(0)
        answer = super().known(question)
        assert answer is not None
        return answer


def signed_often(times: int) -> bytes:
    mail = MAIL
    for _ in range(times):
        mail = sign(mail)
    return mail


MAILS: Final = {
    "signed": sign(MAIL),
    "signed simply": sign(MAIL, c="simple/simple"),
    "signed with Ed25519": sign(MAIL, ed25519_key(), s="ed"),
    "signed in part": sign(MAIL, length=2),
    "signed without a key": sign(MAIL, s="missing"),
    "signed by three": sign(sign(sign(MAIL), d="other.example"), ed25519_key(), s="ed"),
    "signed and changed": sign(MAIL) + b"more\r\n",
    "sealed": arc_set(arc_set(sign(MAIL), 1), 2),
    "unsigned": MAIL,
    "of two authors": MAIL.replace(b"ann@example.com>", b"ann@example.com>, eve@other.example"),
    "without an author": MAIL.replace(b"From:", b"Sender:"),
    "without a header": b"\r\nHi\r\n",
    "broken": b"From: ann@example.com\r\nnothing\r\nDKIM-Signature: v=1; b\r\n\r\nx",
}


@pytest.mark.parametrize("path", ["ann@example.com", "eve@other.example", ""], ids=str)
@pytest.mark.parametrize("mail", MAILS.values(), ids=MAILS.keys())
async def test_both_ways_give_the_same_report(mail: bytes, path: str) -> None:
    sender = Sender("192.0.2.1", "mx.example.com", path, "mx.receiver.example")
    at_once = begin(BytesSource(mail), sender, MemoryResolver(ZONE), Checks(explain=True), now=NOW)
    later = begin(BytesSource(mail), sender, Unknown(ZONE), Checks(explain=True), now=NOW)
    assert isinstance(at_once, Report)
    assert not isinstance(later, Report)
    assert at_once == await later
    assert at_once.spf.reason != "check failed"


@pytest.mark.parametrize(
    "mail",
    [
        signed_often(THREAD_SIGNATURES + 1),
        arc_set(arc_set(arc_set(arc_set(sign(MAIL), 1), 2), 3), 4),
        b"X-Long: " + b"x" * THREAD_HEAD + b"\r\n" + MAIL,
        MAIL + b"x" * THREAD_SIZE + b"\r\n",
    ],
    ids=["many signatures", "many keys of ARC", "a big header", "a big mail"],
)
async def test_mails_that_take_long_to_check_never_hold_the_event_loop(mail: bytes) -> None:
    found = begin(BytesSource(mail), SENDER, MemoryResolver(ZONE), Checks(), now=NOW)
    assert isinstance(found, Awaitable)
    report = await found
    assert (report.spf.verdict, report.dmarc[0].verdict) == ("pass", "pass")


async def test_a_failing_answer_that_is_known_makes_no_mail_wait() -> None:
    report = begin(
        BytesSource(sign(MAIL)),
        SENDER,
        MemoryResolver(ZONE | {"sel._domainkey.example.com": {"TXT": "SERVFAIL"}}),
        Checks(),
        now=NOW,
    )
    assert isinstance(report, Report)
    assert report.dkim_verdict == "temperror"
