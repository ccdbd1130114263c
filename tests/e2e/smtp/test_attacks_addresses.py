"""One address, or one network of IPv6, that takes more than its share of connections and logins."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable

import pytest

from tests.support.clients.wire import Wire
from tests.support.net import HOST
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

STATIC = {"type": "static-auth", "username": "bob", "password": "plain:secret"}


def arrive(stack: contextlib.ExitStack, relay: Relay, ip: str) -> int:
    """Open one connection for a client named in a PROXY header; returns the code of its greeting."""
    wire = stack.enter_context(Wire(relay.port))
    family, server = ("TCP6", "::1") if ":" in ip else ("TCP4", "192.0.2.9")
    wire.send(f"PROXY {family} {ip} {server} 1 25\r\n".encode())
    return wire.reply().code


@pytest.fixture
def relay_of(new_relay: Make) -> Callable[..., Relay]:
    def make(workers: int = 1, **options: object) -> Relay:
        everybody = flow({"type": "whitelist", "ips": ["regexp:.*"]})
        config = {"flows": {"in": everybody}, "workers": workers}
        return new_relay(config, useProxy=[HOST], **options).start()

    return make


@pytest.mark.parametrize("workers", [1, 2])
def test_a_network_of_ipv6_counts_as_one_address(relay_of: Callable[..., Relay], workers: int) -> None:
    relay = relay_of(workers, maxClientsPerIp=3)
    with contextlib.ExitStack() as stack:
        codes = [arrive(stack, relay, f"2001:db8:0:7:{number:x}::1") for number in range(6)]
        assert (codes.count(220), codes.count(421)) == (3, 3)
        assert arrive(stack, relay, "2001:db8:0:8::1") == 220
        assert [arrive(stack, relay, f"198.51.100.{number}") for number in range(4)] == [220] * 4


@pytest.mark.parametrize(("prefix", "let_in"), [(128, 6), (48, 2)])
def test_how_much_of_an_ipv6_address_counts_is_an_option(
    relay_of: Callable[..., Relay], prefix: int, let_in: int
) -> None:
    relay = relay_of(maxClientsPerIp=2, ipv6Prefix=prefix)
    with contextlib.ExitStack() as stack:
        codes = [arrive(stack, relay, f"2001:db8:0:{number}::1") for number in range(6)]
        assert codes.count(220) == let_in


def test_connections_a_minute(relay_of: Callable[..., Relay]) -> None:
    relay = relay_of(maxConnectionRate=5)
    codes = []
    for number in range(8):
        with contextlib.ExitStack() as stack:
            codes.append(arrive(stack, relay, f"2001:db8::{number}"))
    assert codes == [220] * 5 + [421] * 3
    with contextlib.ExitStack() as stack:
        assert arrive(stack, relay, "2001:db8:0:1::1") == 220


def plain(password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0bob\0{password}".encode()).decode()


def test_failed_logins_a_minute(new_relay: Make) -> None:
    """After them even the right password of that address is not looked at."""
    relay = new_relay(
        {"flows": {"in": flow(STATIC)}}, useProxy=[HOST], allowInsecureAuth=True, maxAuthFailureRate=3
    ).start()

    def login(ip: str, password: str) -> int:
        with Wire(relay.port) as wire:
            wire.send(f"PROXY TCP4 {ip} 192.0.2.9 1 25\r\n".encode())
            wire.greet()
            return wire.command(plain(password)).code

    assert [login("198.51.100.1", "secret") for _ in range(5)] == [235] * 5
    assert [login("198.51.100.1", "wrong") for _ in range(5)] == [535] * 3 + [421] * 2
    assert login("198.51.100.1", "secret") == 421
    assert login("198.51.100.2", "secret") == 235
