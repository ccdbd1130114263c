"""The ARC validation suite (RFC 8617)."""

from __future__ import annotations

from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.spf import Sender
from tests.support.mails.conformance import Zone, arc_suite, each

SENDER = Sender("192.0.2.1", "client.example", "", "mx.example")


def test_the_suite_is_whole() -> None:
    assert len(arc_suite()) == 171


@each(("mail", "expected", "zone"), ((name, case) for name, *case in arc_suite()))
async def test_chain(mail: bytes, expected: str, zone: Zone) -> None:
    report = await check(BytesSource(mail), SENDER, MemoryResolver(zone), Checks())
    assert report.arc is not None
    # The suite leaves cv empty if a seal reports a failure itself: the chain ends there.
    assert report.arc.verdict == (expected or "fail"), report.arc
    if not expected:
        assert "reports a failed chain" in report.arc.reason
