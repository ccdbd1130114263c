"""Which clients count as one."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from listener.api.network import network_of


@pytest.mark.parametrize(
    ("ip", "prefix", "network"),
    [
        ("192.0.2.1", 64, "192.0.2.1"),
        ("192.0.2.1", 8, "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", 64, "2001:db8:1:3::/64"),
        ("2001:db8:1:2::1", 48, "2001:db8:1::/48"),
        ("2001:db8:1:ff::1", 60, "2001:db8:1:f0::/60"),
        ("2001:db8:1:2::1", 128, "2001:db8:1:2::1"),
        ("::1", 64, "::/64"),
        ("::ffff:192.0.2.1", 64, "192.0.2.1"),
        ("fe80::1%eth0", 64, "fe80::/64"),
        ("", 64, ""),
        ("no:address", 64, "no:address"),
    ],
)
def test_networks(ip: str, prefix: int, network: str) -> None:
    assert network_of(ip, prefix) == network


@given(st.integers(0, 2**128 - 1), st.integers(1, 127))
def test_it_is_the_network_of_the_address(number: int, prefix: int) -> None:
    ip = ipaddress.IPv6Address(number)
    assume(ip.ipv4_mapped is None)
    found = ipaddress.ip_network(network_of(str(ip), prefix))
    assert found == ipaddress.ip_network((ip, prefix), strict=False)
