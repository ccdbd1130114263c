"""RFC 7208's own suite, through this project's API: with known answers, with answers that come later,
and over a name server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from listener.mailauth import spf
from listener.mailauth.dns.client import DnsResolver
from listener.mailauth.dns.resolver import DnsAnswer, Question, Resolver
from listener.mailauth.dns.zone import MemoryResolver
from tests.support.mails.conformance import Zone, each, needs_spf_suite, spf_suite
from tests.support.servers.dns_server import DnsServer

DEFAULT = "SPF fail - not authorized"

each_case = each(("test", "zone"), ((name, (test, zone)) for name, test, zone in spf_suite()))


class Slow(MemoryResolver):
    """Has no answer without waiting."""

    def known(self, question: Question) -> DnsAnswer | None:
        return None

    async def resolve(self, question: Question) -> DnsAnswer:
        answer = super().known(question)
        assert answer is not None
        return answer


@pytest.fixture(scope="module")
def server() -> Iterator[DnsServer]:
    with DnsServer() as running:
        yield running


async def hold(resolver: Resolver, test: dict[str, Any]) -> None:
    sender = spf.Sender(test["host"], test["helo"], test["mailfrom"], "unknown")
    found = await spf.check(resolver, sender, explain=True)
    expected = test["result"]
    assert found.verdict in ([expected] if isinstance(expected, str) else expected), found
    explanation = test.get("explanation")
    if explanation is not None and found.verdict == "fail":
        assert found.explanation == (DEFAULT if explanation == "DEFAULT" else explanation)


@needs_spf_suite
def test_the_suite_is_whole() -> None:
    assert len(spf_suite()) == 203


@each_case
async def test_known_answers(test: dict[str, Any], zone: Zone) -> None:
    await hold(MemoryResolver(zone), test)


@each_case
async def test_awaited_answers(test: dict[str, Any], zone: Zone) -> None:
    await hold(Slow(zone), test)


@each_case
async def test_over_dns(test: dict[str, Any], zone: Zone, server: DnsServer) -> None:
    server.zone = zone
    resolver = DnsResolver(["127.0.0.1"], server.port, timeout=0.4)
    await hold(resolver, test)
    await resolver.close()
