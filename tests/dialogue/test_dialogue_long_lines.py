"""Lines that are too long: answered 500 and skipped, and no part of them is ever a command."""

from __future__ import annotations

import contextlib
import time
from base64 import b64encode
from collections.abc import Callable

import pytest

from tests.support.clients.wire import Wire
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

SMUGGLED = b"MAIL FROM:<evil@x.example>"
USERS = {"type": "static-auth", "username": "user", "password": "plain:secret"}


@pytest.mark.parametrize("size", [4_096, 5_000, 20_000, 65_000])
@pytest.mark.parametrize("start", [b"NOOP ", b"", b"MAIL FROM:<", b"\0", b"\r"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_long_line_gets_500_and_the_connection_goes_on(
    relay: Relay, size: int, start: bytes, end: bytes
) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        wire.send(start + b"x" * (size - len(start)) + end)
        reply = wire.reply()
        assert (reply.code, reply.text[:5]) == (500, "5.5.2")
        wire.envelope()
        wire.send(b"a: b\r\n.\r\n")
        assert wire.reply().code == 250


@pytest.mark.parametrize("pieces", [1, 7, 1460, 4_095, 4_096, 4_097, 10_000])
def test_the_rest_of_a_long_line_is_no_command(relay: Relay, pieces: int) -> None:
    """The line is cut so that its rest comes alone, and looks like a command with its own line end."""
    head = b"NOOP " + b"x" * (pieces if pieces > 4096 else 4_200)
    with Wire(relay.port) as wire:
        wire.greet()
        wire.send(head)
        time.sleep(0.05)
        wire.send(SMUGGLED + b"\r\n")
        assert wire.reply().code == 500
        assert wire.command("RCPT TO:<victim@y.example>").code == 503, "no mail was begun"
        assert wire.silent()


def test_the_rest_is_no_command_wherever_the_line_is_cut(relay: Relay) -> None:
    for cut in range(4_090, 4_100):
        with Wire(relay.port) as wire:
            wire.greet()
            wire.send(b"y" * 4_200 + SMUGGLED + b"\r\nNOOP\r\n", chunks=[cut, 4_200])
            assert [wire.reply().code, wire.reply().code] == [500, 250], cut
            assert wire.silent(seconds=0.01)


def test_two_long_lines_and_commands_in_one_packet(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        wire.send(b"x" * 9_000 + b"\r\nNOOP\r\n" + b"y" * 9_000 + b"\r\nRSET\r\n")
        assert [wire.reply().code for _ in range(4)] == [500, 250, 500, 250]


def test_a_line_beyond_64_kib_ends_the_connection(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        with contextlib.suppress(OSError):
            wire.send(b"x" * 70_000)
            wire.send(b"x" * 70_000 + b"\r\nNOOP\r\n")
        codes = [line[:3] for line in wire.rest().splitlines()]
    assert codes == [b"500"]


def test_long_lines_count_as_errors(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        with contextlib.suppress(OSError):
            wire.send((b"x" * 5_000 + b"\r\n") * 100)
        codes = [line[:3] for line in wire.rest().splitlines()]
    assert codes[-1] == b"421"
    assert set(codes[:-1]) == {b"500"}
    assert len(codes) <= 20


class TestAuth:
    @pytest.fixture
    def relay(self, relay_for: Make) -> Relay:
        return relay_for({"flows": {"in": flow(USERS)}}, allowInsecureAuth=True)

    def test_a_response_that_is_too_long_ends_the_exchange_and_no_more(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command("AUTH PLAIN").code == 334
            reply = wire.command(b"A" * 20_000)
            assert (reply.code, reply.text[:5]) == (500, "5.5.6")  # RFC 4954 section 4
            assert wire.command("NOOP").code == 250
            assert wire.command("AUTH PLAIN " + b64encode(b"\0user\0secret").decode()).code == 235

    def test_the_rest_of_a_response_is_no_response(self, relay: Relay) -> None:
        """Neither a response to the server's challenge nor a command."""
        right = b64encode(b"\0user\0secret")
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command("AUTH PLAIN").code == 334
            wire.send(b"A" * 13_000)
            time.sleep(0.05)
            wire.send(right + b"\r\n")
            assert wire.reply().code == 500
            wire.send(right + b"\r\n")
            assert wire.reply().code == 500, "the exchange is over: that is a command, and none that is known"
            assert wire.command("AUTH PLAIN").code == 334, "no login has happened"
            assert wire.command("*").code == 501

    def test_an_initial_response_that_is_too_long(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command(b"AUTH PLAIN " + b"A" * 20_000).code == 500
            assert wire.command("NOOP").code == 250

    def test_a_long_line_within_the_bound_of_auth_is_still_read(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command(b"AUTH PLAIN " + b64encode(b"\0u\0" + b"x" * 6_000)).code == 501
            assert wire.command("NOOP").code == 250
