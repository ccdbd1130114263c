"""STARTTLS (RFC 3207) and TLS from the first byte (RFC 8314), over real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients.slow import drip
from tests.support.clients.tls import Authority, encrypt, starttls, trusting
from tests.support.clients.wire import Closed, Wire
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

STATIC: Final = {"type": "static-auth", "username": "user", "password": "plain:secret"}
GOOD: Final = b64encode(b"\0user\0secret").decode()
CA: Final = Authority.shared()


@pytest.fixture
def guarded(relay_for: Make) -> Relay:
    """Accepts mail only from authenticated clients over TLS."""
    return relay_for({"flows": {"in": flow(STATIC)}}, authOptional=False)


@contextlib.contextmanager
def secured(relay: Relay) -> Iterator[Wire]:
    """A connection after STARTTLS and a second hello."""
    with Wire(relay.port) as wire:
        assert "STARTTLS" in wire.greet().lines
        starttls(wire)
        assert wire.command("EHLO client.example").code == 250
        yield wire


def test_a_mail(relay: Relay) -> None:
    with secured(relay) as wire:
        wire.envelope()
        wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
        assert wire.reply().code == 250
        assert wire.command("QUIT").code == 221
        assert wire.rest() == b""
    (mail,) = relay.mails()
    assert b" with ESMTPS id " in mail
    assert b"(version=TLSv1.3 cipher=TLS_" in mail


def test_what_is_offered_before_and_after(guarded: Relay) -> None:
    with Wire(guarded.port) as wire:
        before = wire.greet().lines
        assert "STARTTLS" in before
        assert not any(line.startswith("AUTH") for line in before)
        starttls(wire)
        after = wire.command("EHLO client.example").lines
        assert "STARTTLS" not in after
        assert "AUTH PLAIN LOGIN" in after


def test_what_was_said_before_is_forgotten(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>").code == 250
        assert wire.command("RCPT TO:<b@server.example>").code == 250
        starttls(wire)
        assert wire.command("RCPT TO:<c@server.example>").code == 503
        assert wire.command("MAIL FROM:<a@client.example>").code == 503, "no hello"
        assert wire.command("EHLO client.example").code == 250
        assert wire.command("MAIL FROM:<a@client.example>").code == 250
        assert wire.command("DATA").code == 503


def test_a_login_before_is_forgotten(relay_for: Make) -> None:
    relay = relay_for({"flows": {"in": flow(STATIC)}}, authOptional=False, allowInsecureAuth=True)
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 235
        starttls(wire)
        wire.command("EHLO client.example")
        assert wire.command("MAIL FROM:<a@client.example>").code == 530
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 235
        assert wire.command("MAIL FROM:<a@client.example>").code == 250


@pytest.mark.parametrize(
    "pipelined", ["EHLO evil.example\r\n", "MAIL FROM:<evil@x.example>\r\nRCPT", "x", "\r\n"]
)
def test_nothing_pipelined_after_it_is_kept(relay: Relay, pipelined: str) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        wire.send(b"STARTTLS\r\n" + pipelined.encode())
        assert wire.rest().startswith(b"554 5.5.1 ")


def test_clear_text_in_place_of_the_handshake(relay: Relay) -> None:
    """Bytes that the server reads only after its 220: they begin a handshake, and fail."""
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("STARTTLS").code == 220
        wire.send(b"EHLO evil.example\r\nMAIL FROM:<evil@x.example>\r\n")
        rest = wire.rest()
    assert b"250" not in rest


@pytest.mark.parametrize(
    ("said", "reply"),
    [("STARTTLS now", "501 5.5.4"), ("starttls ", None), ("STARTTLS", None)],
)
def test_its_syntax(relay: Relay, said: str, reply: str | None) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        if reply is None:
            assert wire.command(said).code == 220
            encrypt(wire)
            assert wire.command("NOOP").code == 250
            assert str(wire.command("STARTTLS")).startswith("503 5.5.1")
        else:
            assert str(wire.command(said)).startswith(reply)


def test_before_any_hello(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        assert wire.reply().code == 220
        starttls(wire)
        assert wire.command("EHLO client.example").code == 250


def test_disabled(relay_for: Make) -> None:
    with Wire(relay_for(disabledCommands=["STARTTLS"]).port) as wire:
        assert "STARTTLS" not in wire.greet().lines
        assert wire.command("STARTTLS").code == 502


def test_hidden_and_there(relay_for: Make) -> None:
    with Wire(relay_for(hideSTARTTLS=True).port) as wire:
        assert "STARTTLS" not in wire.greet().lines
        starttls(wire)
        assert wire.command("EHLO client.example").code == 250


class TestFromTheFirstOctet:
    @pytest.fixture
    def smtps(self, relay_for: Make) -> Relay:
        return relay_for({"flows": {"in": flow(STATIC)}}, authOptional=False, secure=True)

    def test_login_and_mail(self, smtps: Relay) -> None:
        with Wire(smtps.port) as wire:
            encrypt(wire)
            offers = wire.greet().lines
            assert "AUTH PLAIN LOGIN" in offers, "stock aiosmtpd hides it here"
            assert "STARTTLS" not in offers
            assert wire.command("MAIL FROM:<a@client.example>").code == 530
            assert wire.command(f"AUTH PLAIN {GOOD}").code == 235
            wire.envelope()
            wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
            assert wire.reply().code == 250
        assert b" with ESMTPSA id " in smtps.mails()[0]

    def test_a_large_mail(self, relay_for: Make) -> None:
        relay = relay_for(secure=True)
        mail = b"a: b\r\n\r\n" + (b"x" * 76 + b"\r\n") * 60_000
        with Wire(relay.port) as wire:
            encrypt(wire)
            wire.begin()
            wire.send(mail + b".\r\n")
            assert wire.reply().code == 250
        assert relay.mails()[0].endswith(mail)

    @pytest.mark.parametrize("octets", [b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100])
    def test_a_client_that_does_not_speak_it(self, smtps: Relay, octets: bytes) -> None:
        with Wire(smtps.port) as wire:
            wire.send(octets)
            rest = wire.rest()
        assert not rest.startswith((b"2", b"4", b"5")), "no clear text but a TLS alert"

    def test_the_connect_filters_speak_through_it(self, relay_for: Make) -> None:
        elsewhere = {"type": "whitelist", "ips": ["192.0.2.1"]}
        relay = relay_for({"flows": {"in": flow(elsewhere)}}, secure=True)
        with Wire(relay.port) as wire:
            encrypt(wire)
            assert wire.reply().code == 554


def test_certificates_of_clients(relay_for: Make, tmp_path: Path) -> None:
    own, client = CA.issue(), CA.issue("relay.client.example").write(tmp_path, "client")
    tls = {"key": own.key_pem(), "cert": own.pem, "ca": CA.identity.pem, "requestCert": True}
    relay = relay_for(secure=True, rejectUnauthorized=False, **tls)
    with Wire(relay.port) as wire:
        made = encrypt(wire, CA.context(client))
        assert made.getpeercert()
        wire.begin()
        wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
        assert wire.reply().code == 250
    with Wire(relay.port) as wire:
        stranger = Authority("another authority").issue("relay").write(tmp_path, "stranger")
        encrypt(wire, CA.context(stranger))
        with pytest.raises((OSError, Closed)):
            wire.reply()  # TLS 1.3 tells the client here


def test_too_many_clients_are_hung_up_on_before_the_handshake(new_relay: Make) -> None:
    relay = new_relay(secure=True, maxClients=1).start()
    with Wire(relay.port) as first:
        deadline = time.monotonic() + 5
        while True:
            try:
                encrypt(first)
                break
            except (ssl.SSLError, OSError):  # the probe that saw the port open must be gone first
                assert time.monotonic() < deadline
                first.socket.close()
                first.__init__(relay.port)  # type: ignore[misc]
        first.greet()
        with Wire(relay.port) as second:
            assert second.rest() == b""
        assert first.command("NOOP").code == 250


class TestSlowHandshakes:
    @pytest.mark.parametrize("implicit", [True, False])
    @pytest.mark.parametrize("octets", [b"", b"\x16\x03\x01"])
    def test_they_end(self, relay_for: Make, implicit: bool, octets: bytes) -> None:
        relay = relay_for(secure=implicit, socketTimeout=1500)
        with Wire(relay.port) as wire:
            if not implicit:
                wire.greet()
                assert wire.command("STARTTLS").code == 220
            wire.send(octets)
            began = time.monotonic()
            assert wire.rest(seconds=10) == b"", "no clear text"
            assert 1.0 < time.monotonic() - began < 6

    def test_a_byte_now_and_then(self, relay_for: Make) -> None:
        relay = relay_for(secure=True, socketTimeout=1500)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting().wrap_bio(incoming, outgoing, server_hostname="mx.server.example")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        hello = outgoing.read()
        began = time.monotonic()  # as for the server, whose time runs while the first byte is on its way
        with Wire(relay.port) as wire:
            _, said = drip(wire, hello, most=8)
            assert time.monotonic() - began > 1
            assert said == b""


def test_gone_in_the_handshake(relay_for: Make) -> None:
    relay = relay_for(secure=True)
    before = relay.open_files()
    for octets in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)):
        with Wire(relay.port) as wire:
            wire.send(octets)
            wire.silent(seconds=0.02)
    deadline = time.monotonic() + 5
    while relay.open_files() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_pipelined_over_tls(relay: Relay) -> None:
    with secured(relay) as wire:
        wire.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n")
        assert [wire.reply().code for _ in range(3)] == [250, 250, 354]
        wire.send(b"a: b\r\n\r\nx\r\n.\r\nRSET\r\nQUIT\r\n")
        assert [wire.reply().code for _ in range(3)] == [250, 250, 221]


def test_byte_by_byte(relay: Relay) -> None:
    with secured(relay) as wire:
        for octet in b"NOOP\r\nNOOP\r\n":
            wire.socket.sendall(bytes([octet]))
        assert [wire.reply().code for _ in range(2)] == [250, 250]


def test_a_session_is_resumed(relay: Relay) -> None:
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Wire(relay.port) as wire:
        wire.greet()
        session = starttls(wire, context).session
        wire.command("NOOP")
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("STARTTLS").code == 220
        made: Any = context.wrap_socket(wire.socket, server_hostname="mx.server.example", session=session)
        wire.socket = made
        assert made.session_reused
        assert wire.command("EHLO client.example").code == 250


def test_half_closed_clients_get_their_answers(relay: Relay) -> None:
    """`printf … | nc` sends everything, closes its side, and reads."""
    with Wire(relay.port) as wire:
        wire.send(
            b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n"
            b"a: b\r\n\r\nx\r\n.\r\nQUIT\r\n"
        )
        wire.socket.shutdown(socket.SHUT_WR)
        codes = [line[:3] for line in wire.rest().decode().splitlines() if line[3:4] == " "]
    assert codes == ["220", "250", "250", "250", "354", "250", "221"]
    assert len(relay.mails()) == 1
