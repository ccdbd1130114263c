"""Recorded mails with their zones, through `check` and `decide`."""

from __future__ import annotations

from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.spf import Sender
from listener.mailauth.verdict import decide
from tests.support.mails.conformance import Case, cases, each


def test_they_are_all_there() -> None:
    assert len(cases()) == 34


@each(("case",), ((case.name, (case,)) for case in cases()))
async def test_case(case: Case) -> None:
    facts = case.facts
    sender = Sender(facts["ip"], facts["helo"], facts["mail_from"], "mx.receiver.example")
    report = await check(BytesSource(case.message), sender, MemoryResolver(case.zone), Checks())
    assert case.right("spf", report.spf.verdict)
    assert case.right("dkim", report.dkim_verdict), report.dkim
    assert report.arc is not None
    assert case.right("arc", report.arc.verdict), report.arc
    assert case.right("dmarc", report.dmarc[0].verdict), report.dmarc
    assert case.right("decision", decide(report, {"dmarc-reject"}).verdict)
