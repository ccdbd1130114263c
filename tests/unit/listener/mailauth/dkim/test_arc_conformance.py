"""The ARC validation suite (RFC 8617)."""

from __future__ import annotations

from typing import Any

from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.spf import Sender
from tests.support.mails.conformance import Zone, arc_suite, each, needs_suites

SENDER = Sender("192.0.2.1", "client.example", "", "mx.example")


@needs_suites
def test_the_suite_is_whole() -> None:
    assert len(arc_suite()) == 171


@each(("test", "zone"), ((name, (test, zone)) for name, test, zone in arc_suite()))
async def test_chain(test: dict[str, Any], zone: Zone) -> None:
    mail = test["message"].encode().replace(b"\n", b"\r\n")
    report = await check(BytesSource(mail), SENDER, MemoryResolver(zone), Checks())
    assert report.arc is not None
    # The suite leaves cv empty where a seal reports a failure itself: the chain ends there.
    expected = test["cv"].strip().lower()
    assert report.arc.verdict == (expected or "fail"), report.arc
    if not expected:
        assert "reports a failed chain" in report.arc.reason
