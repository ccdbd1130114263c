"""Clients' names: forward-confirmed, bounded in time, remembered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from listener.mailauth.dns.client import DnsResolver
from listener.mailauth.dns.iprev import MAX_ENTRIES, ReverseNames
from tests.support.net import HOST
from tests.support.servers.dns_server import DnsServer

A = "7.2.0.192.in-addr.arpa"
V6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"


async def name_of(ip: str, zone: Mapping[str, Any], *, patience: float = 5.0) -> str:
    with DnsServer(zone) as server:
        resolver = DnsResolver([HOST], server.port, timeout=1.0)
        names = ReverseNames(lambda: resolver, patience=patience)
        try:
            return (await names.find(ip)).name
        finally:
            await names.close()


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (
            {A: {"PTR": ["Mail.Client.Example"]}, "mail.client.example": {"A": ["192.0.2.7"]}},
            "mail.client.example",
        ),
        (
            {A: {"PTR": ["m.client.example"]}, "m.client.example": {"A": ["192.0.2.9", "192.0.2.7"]}},
            "m.client.example",
        ),
        (
            {
                A: {"PTR": ["other.example", "m.client.example"]},
                "other.example": {"A": ["192.0.2.8"]},
                "m.client.example": {"A": ["192.0.2.7"]},
            },
            "m.client.example",
        ),
        (  # RFC 2317: the reverse name is an alias
            {
                A: {"CNAME": ["7.part.client.example"]},
                "7.part.client.example": {"PTR": ["m.client.example"]},
                "m.client.example": {"A": ["192.0.2.7"]},
            },
            "m.client.example",
        ),
        ({A: {"PTR": ["host"]}, "host": {"A": ["192.0.2.7"]}}, "host"),
        ({A: {"PTR": ["bank.example"]}, "bank.example": {"A": ["198.51.100.1"]}}, "[192.0.2.7]"),
        ({A: {"PTR": ["nowhere.example"]}}, "[192.0.2.7]"),
        ({}, "[192.0.2.7]"),
        ({A: {"PTR": "SERVFAIL"}}, "[192.0.2.7]"),
        ({A: {"PTR": ["m.client.example"]}, "m.client.example": {"A": "SERVFAIL"}}, "[192.0.2.7]"),
        ({A: {"PTR": "GARBAGE"}}, "[192.0.2.7]"),
        ({A: {"PTR": ["ev$il*x.example"]}, "ev$il*x.example": {"A": ["192.0.2.7"]}}, "[192.0.2.7]"),
        ({A: {"PTR": ["192.0.2.7"]}, "192.0.2.7": {"A": ["192.0.2.7"]}}, "[192.0.2.7]"),
        ({A: {"PTR": ["192.0.2.77"]}, "192.0.2.77": {"A": ["192.0.2.7"]}}, "[192.0.2.7]"),
    ],
)
async def test_a_name_counts_when_it_leads_back(zone: Mapping[str, Any], name: str) -> None:
    assert await name_of("192.0.2.7", zone) == name


@pytest.mark.parametrize(
    ("zone", "sure"),
    [
        ({}, True),
        ({A: {"PTR": ["m.client.example"]}}, True),
        ({A: {"PTR": ["m.client.example"]}, "m.client.example": {"A": ["192.0.2.8"]}}, True),
        ({A: {"PTR": "SERVFAIL"}}, False),
        ({A: {"PTR": "TIMEOUT"}}, False),
        ({A: {"PTR": ["m.client.example"]}, "m.client.example": {"A": "SERVFAIL"}}, False),
    ],
)
async def test_want_of_an_answer_is_told_from_want_of_a_name(zone: Mapping[str, Any], sure: bool) -> None:
    with DnsServer(zone) as server:
        names = ReverseNames(lambda: DnsResolver([HOST], server.port, timeout=1.0), patience=1.0)
        assert await names.find("192.0.2.7") == ("[192.0.2.7]", sure)
        assert names.known("192.0.2.7") == ("[192.0.2.7]", sure)
        await names.close()


async def test_ipv6() -> None:
    zone = {V6: {"PTR": ["six.client.example"]}, "six.client.example": {"AAAA": ["2001:db8:0::1"]}}
    assert await name_of("2001:db8::1", zone) == "six.client.example"
    assert await name_of("2001:db8::2", zone) == "[2001:db8::2]"


async def test_at_most_five_names_are_tried() -> None:
    many = [f"n{number}.example" for number in range(40)]
    zone: dict[str, Any] = {A: {"PTR": many}, "other.example": {"A": ["192.0.2.7"]}}
    with DnsServer(zone) as server:
        names = ReverseNames(lambda: DnsResolver([HOST], server.port, timeout=1.0))
        assert (await names.find("192.0.2.7")).name == "[192.0.2.7]"
        assert len([one for one in server.queries if one[1] == "A"]) <= 5
        await names.close()


async def test_patience_is_bounded_over_all_queries() -> None:
    zone = {A: {"PTR": ["m.client.example"]}, "m.client.example": {"A": "TIMEOUT"}}
    began = time.monotonic()
    assert await name_of("192.0.2.7", zone, patience=0.3) == "[192.0.2.7]"
    assert time.monotonic() - began < 1.5


async def test_names_are_remembered() -> None:
    zone = {A: {"PTR": ["m.client.example"]}, "m.client.example": {"A": ["192.0.2.7"]}}
    with DnsServer(zone) as server:
        names = ReverseNames(lambda: DnsResolver([HOST], server.port))
        assert names.known("192.0.2.7") is None
        await asyncio.gather(*(names.find("192.0.2.7") for _ in range(20)))
        asked = len(server.queries)
        assert asked <= 4, "clients that come together share one search"
        assert names.known("192.0.2.7") == ("m.client.example", True)
        await names.close()


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.9.9.9", "::1"])
async def test_this_machines_clients_need_no_query(ip: str) -> None:
    def never() -> DnsResolver:
        raise AssertionError("asked")

    assert ReverseNames(never).known(ip) == ("localhost", True)


async def test_without_name_servers_there_are_no_names(caplog: pytest.LogCaptureFixture) -> None:
    def nobody() -> DnsResolver:
        raise ValueError("the system names no name server")

    names = ReverseNames(nobody)
    assert (await names.find("192.0.2.7")).name == "[192.0.2.7]"
    assert await names.find("not an address") == ("[not an address]", True)
    assert "no name server" in caplog.text
    await names.close()


async def test_memory_is_bounded() -> None:
    class Absent:
        def known(self, question: Any) -> Any:
            from listener.mailauth.dns.resolver import ABSENT

            return ABSENT

        resolve = known

    names = ReverseNames(Absent)  # type: ignore[arg-type]
    for number in range(MAX_ENTRIES + 50):
        await names.find(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(names._known) == MAX_ENTRIES
