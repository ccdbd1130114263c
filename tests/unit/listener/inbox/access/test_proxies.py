"""Proxies: what trusted ones say counts, and nothing that a client wrote."""

from __future__ import annotations

import ipaddress

import pytest

from listener.inbox.access.proxies import Proxies, Visit

TRUSTED = Proxies((ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")))


@pytest.mark.parametrize(
    ("peer", "told", "client"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("2001:db8::1", "[2001:470::1]:4711", "2001:470::1"),
        ("10.0.0.1", "2001:470::1", "2001:470::1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1,", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_address_that_no_trusted_proxy_has(peer: str, told: str, client: str) -> None:
    found = TRUSTED.visit(peer, "inner", {"x-forwarded-for": told}, secure=False)
    assert found == Visit(client, "inner", secure=False)


def test_name_and_tls_are_those_that_the_proxy_was_asked_with() -> None:
    fields = {"x-forwarded-host": "evil.example, mail.example", "x-forwarded-proto": "HTTPS"}
    assert TRUSTED.visit("10.0.0.1", "inner", fields, secure=False) == Visit(
        "10.0.0.1", "mail.example", secure=True
    )
    assert TRUSTED.visit("192.0.2.1", "inner", fields, secure=False) == Visit(
        "192.0.2.1", "inner", secure=False
    )
    assert Proxies(False).visit("127.0.0.1", "inner", fields, secure=False).host == "inner"
