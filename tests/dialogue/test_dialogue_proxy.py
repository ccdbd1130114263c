"""Clients behind proxies: PROXY headers, XCLIENT, XFORWARD."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest

from tests.support.clients.slow import drip
from tests.support.clients.tls import encrypt, starttls
from tests.support.clients.wire import Wire
from tests.support.net import HOST
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT: Final = "192.0.2.7"
THERE: Final = {"type": "whitelist", "ips": [CLIENT, "2001:db8::7"]}


def v2(body: bytes, command: int = 0x21, family: int = 0x11) -> bytes:
    return V2 + bytes([command, family]) + len(body).to_bytes(2) + body


def tcp4(client: str = CLIENT, tlvs: bytes = b"") -> bytes:
    return v2(socket.inet_aton(client) + socket.inet_aton("198.51.100.1") + b"\x10\x00\x00\x19" + tlvs)


def tcp6(client: str) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6, client) + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    return v2(packed + b"\x10\x00\x00\x19", family=0x21)


def received(relay: Relay) -> bytes:
    """The client as the Received field of the only mail names it."""
    (mail,) = relay.mails()
    match = re.search(rb"\r\nReceived: from (.*?)\r\n", mail)
    assert match is not None
    return match[1]


def deliver(wire: Wire) -> None:
    wire.envelope()
    wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
    assert wire.reply().code == 250


class TestProxy:
    @pytest.fixture
    def relay(self, relay_for: Make) -> Relay:
        """Accepts mail of one client only, behind any proxy."""
        return relay_for({"flows": {"in": flow(THERE)}}, useProxy=[HOST])

    @pytest.mark.parametrize(
        ("header", "ip"),
        [
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 4096 25\r\n", b"[192.0.2.7]"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4096 25\r\n", b"[IPv6:2001:db8::7]"),
            (b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4096 25\r\n", b"[192.0.2.7]"),
            (tcp4(), b"[192.0.2.7]"),
            (tcp4(tlvs=b"\x04\x00\x03abc\xea\x00\x05\x01vpce"), b"[192.0.2.7]"),
            (tcp4(tlvs=b"\x04\x0f\xa0" + bytes(4000)), b"[192.0.2.7]"),
            (tcp6("2001:db8::7"), b"[IPv6:2001:db8::7]"),
            (tcp6("::ffff:192.0.2.7"), b"[192.0.2.7]"),
        ],
    )
    @pytest.mark.parametrize("chunks", [None, 1])
    def test_the_client_it_names_counts(
        self, relay: Relay, header: bytes, ip: bytes, chunks: int | None
    ) -> None:
        if chunks and len(header) > 200:
            chunks = 100
        with Wire(relay.port) as wire:
            wire.send(header, chunks=chunks)
            wire.greet()
            deliver(wire)
        assert received(relay) == b"client.example (" + ip + b")"

    @pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.8 198.51.100.1 4096 25\r\n", tcp4("192.0.2.8")])
    def test_another_client_is_refused(self, relay: Relay, header: bytes) -> None:
        with Wire(relay.port) as wire:
            wire.send(header)
            assert wire.reply().code == 554

    @pytest.mark.parametrize(
        "header", [b"PROXY UNKNOWN\r\n", v2(b"", 0x20, 0), b"PROXY TCP4 127.0.0.1 198.51.100.1 4096 25\r\n"]
    )
    @pytest.mark.parametrize("hello", [b"EHLO balancer.example\r\n", b"helo x\n"])
    @pytest.mark.parametrize("whole", [True, False])
    def test_a_hello_may_follow_the_header_at_once(
        self, relay_for: Make, header: bytes, hello: bytes, whole: bool
    ) -> None:
        """The checks of older HAProxys do not wait for the greeting."""
        relay = relay_for({"flows": {"in": flow()}}, useProxy=[HOST])
        with Wire(relay.port) as wire:
            wire.send(header + hello, chunks=None if whole else [len(header)])
            assert [wire.reply().code, wire.reply().code] == [220, 250]
            assert wire.command("QUIT").code == 221

    @pytest.mark.parametrize(
        "early",
        [
            b"MAIL FROM:<a@client.example>\r\n",
            b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n",
            b"EHLO client",
            b"EHLOX\r\n",
            b"\r\n",
        ],
    )
    def test_more_than_a_hello_behind_the_header_is_too_early(self, relay_for: Make, early: bytes) -> None:
        relay = relay_for({"flows": {"in": flow()}}, useProxy=[HOST])
        with Wire(relay.port) as wire:
            wire.send(b"PROXY TCP4 127.0.0.1 198.51.100.1 4096 25\r\n" + early)
            assert wire.rest().startswith(b"554 ")

    @pytest.mark.parametrize(
        "header", [b"PROXY UNKNOWN\r\n", v2(b"", 0x20, 0), v2(bytes(12), 0x20), v2(b"", 0x21, 0)]
    )
    def test_a_health_check_is_the_proxy_itself(self, relay_for: Make, header: bytes) -> None:
        relay = relay_for({"flows": {"in": flow()}}, useProxy=[HOST])
        with Wire(relay.port) as wire:
            wire.send(header)
            wire.greet()
            deliver(wire)
        assert received(relay) == b"client.example ([127.0.0.1])"

    @pytest.mark.parametrize(
        "octets",
        [
            b"EHLO client.example\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4096\r\n",
            b"PROXY TCP4 " + b"1" * 200,
            b"PROXY UNKNOWN " + b"x" * 5000 + b"\r\n",
            V2 + b"\x21\x11\xff\xff" + bytes(70_000),
            V2 + b"\x31\x11\x00\x00",
            v2(bytes(4)),
            b"\x16\x03\x01\x00\x80" + bytes(128),
        ],
    )
    def test_what_is_none_ends_the_connection(self, relay: Relay, octets: bytes) -> None:
        with Wire(relay.port) as wire:
            wire.send(octets)
            assert wire.rest(seconds=3) == b""

    def test_no_greeting_before_it(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            assert wire.silent(seconds=0.2)
            wire.send(tcp4())
            assert wire.reply().code == 220

    def test_a_header_that_never_comes(self, relay_for: Make) -> None:
        relay = relay_for({"flows": {"in": flow(THERE)}}, useProxy=True, socketTimeout=1500)
        for start in (b"", b"PROXY TCP4 192.0", V2[:5], tcp4()[:-1]):
            with Wire(relay.port) as wire:
                wire.send(start)
                began = time.monotonic()
                assert wire.rest(seconds=10) == b""
                assert 1.0 < time.monotonic() - began < 6

    def test_a_byte_of_it_now_and_then(self, relay_for: Make) -> None:
        relay = relay_for({"flows": {"in": flow(THERE)}}, useProxy=True, socketTimeout=1500)
        with Wire(relay.port) as wire:
            seconds, said = drip(wire, b"PROXY TCP4 192.0.2.7 198.51.100.1 4096 25", most=8)
            assert seconds > 1
            assert said == b""

    def test_gone_within_it(self, relay: Relay) -> None:
        before = relay.open_files()
        for cut in (0, 5, 12, 20):
            with Wire(relay.port) as wire:
                wire.send(tcp4()[:cut])
        deadline = time.monotonic() + 5
        while relay.open_files() > before:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_a_client_that_speaks_right_behind_it(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.send(tcp4() + b"EHLO client.example\r\n")
            assert wire.reply().code in (220, 554)

    def test_limits_hold_for_the_client(self, new_relay: Make) -> None:
        relay = new_relay({"flows": {"in": flow(THERE)}}, useProxy=True, maxClientsPerIp=1).start()
        with Wire(relay.port) as first, Wire(relay.port) as second, Wire(relay.port) as third:
            for wire, ip in ((first, CLIENT), (second, CLIENT), (third, "192.0.2.8")):
                wire.send(tcp4(ip))
            assert first.reply().code == 220
            assert second.reply().code == 421
            assert third.reply().code == 554, "the filter's answer, not the limit's"

    def test_those_that_say_nothing_count_too(self, new_relay: Make) -> None:
        relay = new_relay({"flows": {"in": flow(THERE)}}, useProxy=True, maxClients=2).start()
        deadline = time.monotonic() + 5
        while True:
            with Wire(relay.port) as first, Wire(relay.port) as second:
                first.silent(seconds=0.1)
                second.silent(seconds=0.1)
                with Wire(relay.port) as third:
                    if third.rest(seconds=3) == b"":
                        break
            assert time.monotonic() < deadline


class TestUntrustedPeers:
    @pytest.fixture
    def relay(self, relay_for: Make) -> Relay:
        """Trusts proxies at other addresses than this test's."""
        return relay_for(useProxy=["203.0.113.0/24"])

    def test_they_speak_smtp_at_once(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            deliver(wire)

    def test_their_headers_are_nonsense(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 4096 25\r\n")
            codes = [wire.reply().code, wire.reply().code]
            assert codes == [220, 500]
            wire.command("EHLO client.example")
            deliver(wire)
        assert received(relay) == b"client.example ([127.0.0.1])"

    def test_binary_ones_too(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.send(tcp4())
            codes = [line[:3] for line in wire.rest().decode().splitlines()]
        assert codes[0] == "220"
        assert set(codes[1:-1]) == {"500"}
        assert codes[-1] == "221", "its signature holds a QUIT"

    def test_without_the_option(self, relay_for: Make) -> None:
        with Wire(relay_for().port) as wire:
            assert wire.reply().code == 220
            assert wire.command("PROXY TCP4 192.0.2.7 198.51.100.1 4096 25").code == 500


class TestProxyAndTls:
    @pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 198.51.100.1 4096 465\r\n", tcp4()])
    @pytest.mark.parametrize("together", [True, False])
    def test_the_header_comes_first(self, relay_for: Make, header: bytes, together: bool) -> None:
        """Also if it shares a packet with the handshake's first bytes."""
        relay = relay_for({"flows": {"in": flow(THERE)}}, useProxy=True, secure=True)
        with Wire(relay.port) as wire:
            if together:
                # The kernel waits for more to send, 200 ms at most.
                wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
                wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                wire.send(header)
            else:
                wire.send(header)
                time.sleep(0.05)
            encrypt(wire)
            wire.greet()
            deliver(wire)
        assert received(relay) == b"client.example ([192.0.2.7])"
        assert b" with ESMTPS id " in relay.mails()[0]

    def test_starttls_behind_it(self, relay_for: Make) -> None:
        relay = relay_for({"flows": {"in": flow(THERE)}}, useProxy=True)
        with Wire(relay.port) as wire:
            wire.send(tcp4())
            wire.greet()
            starttls(wire)
            wire.command("EHLO client.example")
            deliver(wire)
        assert received(relay) == b"client.example ([192.0.2.7])"


class TestXclient:
    @pytest.fixture
    def both(self, relay_for: Make) -> Relay:
        """Accepts connections of the proxy and its client."""
        here = {"type": "whitelist", "ips": [HOST, CLIENT, "2001:db8::7"]}
        return relay_for({"flows": {"in": flow(here)}}, useXClient=[HOST])

    def test_it_is_offered_to_permitted_peers(self, both: Relay, relay_for: Make) -> None:
        offer = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
        with Wire(both.port) as wire:
            assert offer in wire.greet().lines
        with Wire(relay_for(useXClient=["192.0.2.0/24"]).port) as wire:
            assert not any("XCLIENT" in line for line in wire.greet().lines)
            assert str(wire.command("XCLIENT ADDR=192.0.2.7")).startswith("550 5.7.0")
        with Wire(relay_for().port) as wire:
            wire.greet()
            assert wire.command("XCLIENT ADDR=192.0.2.7").code == 500

    @pytest.mark.parametrize(
        ("attributes", "client"),
        [
            ("ADDR=192.0.2.7", b"([192.0.2.7])"),
            ("addr=192.0.2.7 Name=Mail.Client.Example", b"(mail.client.example [192.0.2.7])"),
            ("NAME=mail.client.example ADDR=IPV6:2001:db8::7", b"(mail.client.example [IPv6:2001:db8::7])"),
            ("ADDR=IPv6:::ffff:192.0.2.7 NAME=[UNAVAILABLE]", b"([192.0.2.7])"),
            ("ADDR=192.0.2.7 NAME=[TEMPUNAVAIL] PORT=[UNAVAILABLE]", b"([192.0.2.7])"),
            ("NAME=mail.client.example PORT=99", b"(mail.client.example [127.0.0.1])"),
            ("ADDR=192.0.2.7 DESTADDR=198.51.100.4 DESTPORT=25 LOGIN=", b"([192.0.2.7])"),
        ],
    )
    def test_a_client(self, both: Relay, attributes: str, client: bytes) -> None:
        with Wire(both.port) as wire:
            wire.greet("proxy.example")
            assert wire.command(f"XCLIENT {attributes}").code == 220
            assert wire.command("MAIL FROM:<a@client.example>").code == 503, "no hello"
            assert wire.command("EHLO client.example").code == 250
            deliver(wire)
        assert received(both) == b"client.example " + client

    def test_the_filters_are_asked_again(self, both: Relay) -> None:
        with Wire(both.port) as wire:
            wire.greet()
            assert wire.command("XCLIENT ADDR=192.0.2.8").code == 554
            assert wire.rest() == b""
        with Wire(both.port) as wire:
            wire.greet()
            for ip in (CLIENT, HOST, CLIENT):
                assert wire.command(f"XCLIENT ADDR={ip}").code == 220

    def test_hello_and_protocol_may_come_along(self, both: Relay) -> None:
        with Wire(both.port) as wire:
            wire.greet("proxy.example")
            line = "XCLIENT ADDR=192.0.2.7 HELO=real.client.example PROTO=ESMTP"
            assert wire.command(line).code == 220
            wire.envelope()
            wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
            assert wire.reply().code == 250
        assert received(both) == b"real.client.example ([192.0.2.7])"

    @pytest.mark.parametrize(
        "line",
        [
            "XCLIENT",
            "XCLIENT ADDR",
            "XCLIENT ADDR=nonsense",
            "XCLIENT ADDR=192.0.2.256",
            "XCLIENT ADDR=fe80::1%1",
            "XCLIENT PORT=70000",
            "XCLIENT PORT=x",
            "XCLIENT PROTO=HTTP",
            "XCLIENT NAME=a+20b",
            "XCLIENT NAME=a+0D+0Ab",
            "XCLIENT HELO=a+0Ab",
            "XCLIENT HELO=+",
            "XCLIENT HELO=" + "x" * 256,
            "XCLIENT FOO=bar",
            "XCLIENT ADDR=192.0.2.7 ADDR=192.0.2.7",
            "XCLIENT \x1b[31m=red",
            "XCLIENT É=1",
        ],
    )
    def test_bad_attributes_change_nothing(self, both: Relay, line: str) -> None:
        with Wire(both.port) as wire:
            wire.greet()
            said = str(wire.command(line))
            assert said.startswith("501 5.5.4"), line
            assert said.isascii()
            assert said.isprintable()
            deliver(wire)
        assert received(both) == b"client.example ([127.0.0.1])"

    def test_not_within_a_mail(self, both: Relay) -> None:
        with Wire(both.port) as wire:
            wire.greet()
            assert wire.command("MAIL FROM:<a@client.example>").code == 250
            assert str(wire.command("XCLIENT ADDR=192.0.2.7")).startswith("503 5.5.1")

    def test_a_login(self, relay_for: Make) -> None:
        """The proxy checked the password itself."""
        static = {"type": "static-auth", "username": "user", "password": "plain:secret"}
        flows = {"in": flow(static, {"type": "whitelist", "ips": [HOST, CLIENT]})}
        relay = relay_for({"flows": flows}, authOptional=False, useXClient=[HOST], allowInsecureAuth=True)
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command("MAIL FROM:<a@client.example>").code == 530
            assert wire.command("XCLIENT ADDR=192.0.2.7 LOGIN=user").code == 220
            assert not any(line.startswith("AUTH") for line in wire.command("EHLO client.example").lines)
            deliver(wire)
            assert wire.command("XCLIENT ADDR=192.0.2.7").code == 220
            wire.command("EHLO client.example")
            assert wire.command("MAIL FROM:<a@client.example>").code == 530, "the next client has not"
            assert wire.command("XCLIENT ADDR=192.0.2.7 LOGIN=nobody").code == 220
            wire.command("EHLO client.example")
            assert wire.command("MAIL FROM:<a@client.example>").code == 550, "not a user of that flow"
        assert b" with ESMTPA id " in relay.mails()[0]

    def test_limits_hold_for_the_client(self, new_relay: Make) -> None:
        here = {"type": "whitelist", "subnets": ["0.0.0.0/0"]}
        relay = new_relay({"flows": {"in": flow(here)}}, useXClient=True, maxClientsPerIp=2).start()
        with Wire(relay.port) as first, Wire(relay.port) as second:
            for wire in (first, second):
                deadline = time.monotonic() + 5
                while wire.reply().code != 220:  # the probe that saw the port open
                    wire.__init__(relay.port)  # type: ignore[misc]
                    assert time.monotonic() < deadline
                assert wire.command("XCLIENT ADDR=192.0.2.7").code == 220
            with Wire(relay.port) as third:
                assert third.reply().code == 220
                assert third.command("XCLIENT ADDR=192.0.2.7").code == 421
                assert third.rest() == b""

    def test_over_and_over_ends(self, both: Relay) -> None:
        with Wire(both.port) as wire:
            wire.greet()
            codes = _until_closed(wire, ["XCLIENT ADDR=192.0.2.7"] * 300)
        assert codes[-1] == 421


class TestXforward:
    OFFER: Final = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"

    @pytest.fixture
    def relay(self, relay_for: Make) -> Relay:
        return relay_for(useXForward=[HOST])

    def test_it_is_taken_and_changes_nothing(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            assert self.OFFER in wire.greet().lines
            assert wire.command("XFORWARD NAME=spike.example ADDR=IPV6:2001:db8::9 PROTO=ESMTP").code == 250
            assert wire.command("XFORWARD HELO=spike+20x IDENT=4F5 SOURCE=REMOTE PORT=5").code == 250
            deliver(wire)
        assert received(relay) == b"client.example ([127.0.0.1])"

    @pytest.mark.parametrize(
        "line",
        ["XFORWARD", "XFORWARD ADDR=x", "XFORWARD LOGIN=x", "XFORWARD SOURCE=MARS", "XFORWARD IDENT=+0A"],
    )
    def test_bad_attributes(self, relay: Relay, line: str) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert str(wire.command(line)).startswith("501 5.5.4")

    def test_when_and_to_whom(self, relay: Relay, relay_for: Make) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            wire.command("MAIL FROM:<a@client.example>")
            assert wire.command("XFORWARD NAME=x.example").code == 503
        with Wire(relay_for(useXForward=["192.0.2.1"]).port) as wire:
            assert self.OFFER not in wire.greet().lines
            assert wire.command("XFORWARD NAME=x.example").code == 550


def _until_closed(wire: Wire, lines: Sequence[str]) -> list[Any]:
    codes = []
    for line in lines:
        codes.append(wire.command(line).code)
        if codes[-1] == 421:
            break
    return codes
