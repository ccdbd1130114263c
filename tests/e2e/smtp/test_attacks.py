"""Inputs of strangers, and their replies: a table of attacks over real sockets (docs/limits.md).

Each row names the permitted replies. Every row also checks that the attack ends in time, that
memory stays flat, that nothing is left behind and that the server serves afterwards. Slow and
vanishing clients are in test_attacks_slow.py, attacks through the mail itself in
test_attacks_data.py.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.support.clients.attack import attack
from tests.support.clients.tls import encrypt, starttls
from tests.support.clients.wire import Wire
from tests.support.net import HOST
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

HELLO: Final = b"EHLO client.example\r\n"
BEGUN: Final = HELLO + b"MAIL FROM:<a@client.example>\r\n"
STATIC: Final = {"type": "static-auth", "username": "user", "password": "plain:secret"}
EITHER: Final = {"flows": {"in": flow({"type": "whitelist", "ips": [HOST]}, STATIC, operator="OR")}}
ONE_SENDER: Final = {"flows": {"in": flow({"type": "whitelist", "from": ["a@client.example"]})}}
ONE_RECIPIENT: Final = {"flows": {"in": flow({"type": "whitelist", "to": ["b@server.example"]})}}
PROXIED: Final[dict[str, Any]] = {"useProxy": ["203.0.113.0/24"]}
FORWARDED: Final[dict[str, Any]] = {"useXClient": True, "useXForward": True}


@dataclass(frozen=True)
class Row:
    """One attack: the lines before it (answered 2yz or 3yz), the lines of the attack, `times` over, and
    the codes that may come back, the last reply's among `last`."""

    name: str
    sends: bytes
    codes: tuple[int, ...]
    last: tuple[int, ...] = ()
    before: bytes = HELLO
    times: int = 1
    closed: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    secure: bool = False
    least: int = 1


ROWS: Final = [
    # commands pipelined after STARTTLS
    Row("STARTTLS and a command", b"STARTTLS\r\nEHLO evil.example\r\n", (554,)),
    Row(
        "STARTTLS and a mail", b"STARTTLS\r\nMAIL FROM:<x@evil.example>\r\nRCPT TO:<b@c.example>\r\n", (554,)
    ),
    Row("STARTTLS and a byte", b"STARTTLS\r\n\0", (554,)),
    Row("STARTTLS in the middle", b"NOOP\r\nSTARTTLS\r\nNOOP\r\n", (250, 554), last=(554,)),
    # AUTH before TLS
    Row("AUTH PLAIN in clear text", b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n", (538,), closed=False, config=EITHER),
    Row(
        "AUTH LOGIN in clear text",
        b"AUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0\r\n",
        (538, 500),
        closed=False,
        config=EITHER,
    ),
    Row(
        "AUTH in clear text, over and over",
        b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
        (538, 421),
        (421,),
        times=400,
        config=EITHER,
    ),
    # overlong commands
    Row("5,000 bytes of a command", b"NOOP " + b"x" * 5_000 + b"\r\n", (500,), closed=False),
    Row("5,000 bytes of nothing", b"x" * 5_000 + b"\r\n", (500,), closed=False),
    Row("5,000 bytes, over and over", b"x" * 5_000 + b"\r\n", (500, 421), (421,), times=100),
    Row(
        "5,000 bytes of an address", b"MAIL FROM:<" + b"x" * 5_000 + b"@a.example>\r\n", (500,), closed=False
    ),
    Row("a hundred kilobytes and commands", b"y" * 100_000 + b"\r\n" + BEGUN, (500,)),
    Row("a line without an end", b"z" * 5_000_000, (500,)),
    Row("an AUTH line without an end", b"AUTH PLAIN " + b"A" * 5_000_000, (500,)),
    Row(
        "a response without an end",
        b"A" * 5_000_000,
        (500,),
        before=HELLO + b"AUTH PLAIN\r\n",
        options={"allowInsecureAuth": True},
    ),
    Row(
        "an address of 2,000 bytes",
        b"MAIL FROM:<" + b"x" * 2_000 + b"@a.example>\r\n",
        (501, 553),
        closed=False,
    ),
    Row("a hello of 2,000 bytes", b"EHLO " + b"x" * 2_000 + b"\r\n", (501,), closed=False),
    Row(
        "a thousand parameters",
        b"MAIL FROM:<a@b.example>" + b" A=B" * 900 + b"\r\n",
        (501, 555),
        closed=False,
    ),
    Row(
        "a route of a thousand hosts",
        b"RCPT TO:<" + b",".join([b"@a"] * 1000) + b":b@c.example>\r\n",
        (250, 501, 503),
        before=BEGUN,
        closed=False,
    ),
    # floods
    Row(
        "5,000 recipients",
        b"".join(b"RCPT TO:<u%d@server.example>\r\n" % n for n in range(5000)),
        (250, 452, 421),
        (421,),
        before=BEGUN,
        least=1000,
    ),
    Row(
        "one recipient 5,000 times",
        b"RCPT TO:<b@server.example>\r\n",
        (250, 452, 421),
        (421,),
        before=BEGUN,
        times=5000,
        least=1000,
    ),
    Row(
        "refused recipients",
        b"RCPT TO:<x@elsewhere.example>\r\n",
        (550, 421),
        (421,),
        before=BEGUN,
        times=5000,
        config=ONE_RECIPIENT,
    ),
    Row(
        "refused senders",
        b"MAIL FROM:<x@elsewhere.example>\r\n",
        (550, 421),
        (421,),
        times=5000,
        config=ONE_SENDER,
    ),
    Row("recipients that are none", b"RCPT TO:<\r\n", (501, 421), (421,), before=BEGUN, times=5000),
    Row("NOOP", b"NOOP\r\n", (250, 421), (421,), times=50_000),
    Row("NOOP over TLS", b"NOOP\r\n", (250, 421), (421,), times=50_000, secure=True),
    Row("RSET", b"RSET\r\n", (250, 421), (421,), times=50_000),
    Row("VRFY", b"VRFY root\r\n", (252, 421), (421,), times=50_000),
    Row("HELP", b"HELP\r\n", (214, 421), (421,), times=50_000),
    Row("EHLO", HELLO, (250, 421), (421,), times=50_000),
    Row("EXPN", b"EXPN staff\r\n", (502, 421), (421,), times=50_000),
    Row(
        "mails that are given up",
        b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@server.example>\r\nRSET\r\n",
        (250, 421),
        (421,),
        times=5_000,
    ),
    Row(
        "AUTH that is given up",
        b"AUTH LOGIN\r\n*\r\n",
        (334, 501, 421),
        (421,),
        times=5_000,
        options={"allowInsecureAuth": True},
    ),
    Row("empty lines", b"\r\n", (500, 421), (421,), times=50_000),
    Row("bare line feeds", b"\n", (500, 421), (421,), times=50_000),
    Row("carriage returns", b"\r" * 200_000, (500,)),
    Row("noise", bytes(range(256)) * 500, (500, 501, 421), (421, 500)),
    Row("XCLIENT and more", b"XCLIENT ADDR=127.0.0.1\r\nEHLO x\r\n", (554,), options=FORWARDED),
    Row("XFORWARD", b"XFORWARD NAME=a.example\r\n", (250, 421), (421,), times=5_000, options=FORWARDED),
    Row(
        "XCLIENT that may not",
        b"XCLIENT ADDR=192.0.2.1\r\n",
        (550, 421),
        (421,),
        times=5_000,
        options={"useXClient": ["192.0.2.1"]},
    ),
    # other protocols on the port
    Row("GET", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", (554,), before=b""),
    Row(
        "POST with a mail in it", b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n" + BEGUN, (554,), before=b""
    ),
    Row("CONNECT", b"CONNECT a.example:25 HTTP/1.1\r\n\r\n", (554,), before=b""),
    Row("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (500,), before=b"", closed=False),
    # PROXY from untrusted peers
    Row(
        "PROXY version 1",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\r\n",
        (500,),
        before=b"",
        closed=False,
        options=PROXIED,
    ),
    Row(
        "PROXY version 1 without the option",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\r\n",
        (500,),
        before=b"",
        closed=False,
    ),
    Row(
        "PROXY version 2",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12),
        (500, 221),
        (221,),
        before=b"",
        options=PROXIED,
    ),
    Row(
        "a PROXY header that is too long",
        b"PROXY UNKNOWN " + b"x" * 100_000,
        (500,),
        before=b"",
        options=PROXIED,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rows(relay_for: Make, row: Row) -> None:
    options = dict(row.options)
    relay = relay_for(row.config, **options)
    with attack(relay), Wire(relay.port) as wire:
        codes = _played(wire, row)
    assert len(codes) >= row.least
    assert set(codes) <= set(row.codes), codes[-5:]
    assert codes[-1] in (row.last or row.codes)


def _played(wire: Wire, row: Row) -> list[int]:
    """The codes of all replies to the lines of the row."""
    assert wire.reply().code == 220
    if row.secure:
        wire.command("EHLO client.example")
        starttls(wire)
    for line in row.before.splitlines(keepends=True):
        wire.send(line)
        assert wire.reply().code < 400
    wire.socket.settimeout(10)
    if row.closed:
        # A client that is disconnected while it sends has its reply all the same.
        with contextlib.suppress(OSError):
            wire.send(row.sends * row.times)
        return _codes(wire.rest())
    wire.send(row.sends * row.times + b"QUIT\r\n")
    codes = _codes(wire.rest())
    assert codes[-1] == 221, codes
    return codes[:-1]


def _codes(said: bytes) -> list[int]:
    return [int(line[:3]) for line in said.decode().split("\r\n") if line[3:4] == " "]


ARGUMENTS: Final[Sequence[tuple[bytes, bytes]]] = [
    (b"", b"HELO cli%sent.example"),
    (b"", b"EHLO cli%sent.example"),
    (HELLO, b"MAIL FROM:<a%sb@client.example>"),
    (HELLO, b"MAIL FROM:<a@client%s.example>"),
    (HELLO, b"MAIL FROM:<a@client.example> SIZE=1%s"),
    (HELLO, b"MAIL %sFROM:<a@client.example>"),
    (BEGUN, b"RCPT TO:<a%sb@server.example>"),
    (BEGUN, b"RCPT TO:<a@server.example%s>"),
    (BEGUN, b'RCPT TO:<"a%sb"@server.example>'),
    (BEGUN, b"RCPT TO:<a@server.example>%s"),
    (HELLO, b"VRFY ro%sot"),
    (HELLO, b"EXPN sta%sff"),
    (HELLO, b"NOOP a%sb"),
    (HELLO, b"RSET %s"),
    (HELLO, b"HELP a%sb"),
    (HELLO, b"DATA %s"),
    (HELLO, b"QUIT %s"),
    (HELLO, b"AUTH PLAIN AHVzZXIAc2%sVjcmV0"),
    (HELLO, b"AUTH %sPLAIN"),
    (HELLO, b"STARTTLS %s"),
    (HELLO, b"XCLIENT NAME=a%sb.example"),
    (HELLO, b"XFORWARD HELO=a%sb"),
    (HELLO, b"FOO a%sb"),
]


@pytest.mark.parametrize("octet", [b"\0", b"\r", b"\n"], ids=["NUL", "CR", "LF"])
@pytest.mark.parametrize(("before", "line"), ARGUMENTS, ids=lambda one: one[:12].decode() if one else "-")
def test_control_bytes_in_arguments(relay_for: Make, octet: bytes, before: bytes, line: bytes) -> None:
    """NUL and CR are refused at any place. LF ends the line, as people type it; the rest is a command
    of its own, and a harmless one."""
    relay = relay_for(EITHER, allowInsecureAuth=True, **FORWARDED)
    with Wire(relay.port) as wire:
        assert wire.reply().code == 220
        for said in before.splitlines(keepends=True):
            wire.send(said)
            assert wire.reply().code == 250
        wire.send(line % octet + b"\r\nNOOP\r\nQUIT\r\n")
        codes = _codes(wire.rest())
        if octet == b"\n":
            assert set(codes[1:-1]) <= {250, 334, 500, 501, 503, 252, 214}, codes
        else:
            assert codes[0] in (500, 501, 502, 538), codes
            assert codes[1:] == [250, 221], codes
    assert relay.mails() == []


def test_tls_on_a_port_in_clear_text(relay_for: Make) -> None:
    relay = relay_for(socketTimeout=1500)
    with attack(relay), Wire(relay.port) as wire:
        wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(128)) * 4)
        assert wire.rest()[:3] == b"220"


def test_garbage_within_tls(relay_for: Make) -> None:
    relay = relay_for()
    with attack(relay), Wire(relay.port) as wire:
        wire.greet()
        with socket.socket(fileno=starttls(wire).detach()) as plain:
            plain.settimeout(5)
            with contextlib.suppress(OSError):
                plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32) + b"MAIL FROM:<x@evil.example>\r\n" * 1000)
                while plain.recv(4096):
                    pass


@pytest.mark.parametrize("secure", [False, True])
def test_replies_that_no_client_reads(relay_for: Make, secure: bool) -> None:
    """A mail, then commands without end, from a client that never reads."""
    relay = relay_for(socketTimeout=1500, closeTimeout=1500)
    with attack(relay, seconds=20), Wire(relay.port) as wire:
        wire.greet()
        if secure:
            starttls(wire)
            wire.command("EHLO client.example")
        wire.socket.settimeout(1)
        with contextlib.suppress(OSError):
            for _ in range(3000):
                wire.socket.sendall(b"VRFY a\r\n" * 2000)


def test_a_crowd(new_relay: Make) -> None:
    """More clients than the limit, all at once: the others get 421 and are disconnected."""
    relay = new_relay(maxClients=50).start()
    with attack(relay, seconds=20), contextlib.ExitStack() as stack:
        codes = [stack.enter_context(Wire(relay.port)).reply().code for _ in range(200)]
        assert codes.count(220) == 50
        assert codes.count(421) == 150


@pytest.mark.parametrize("limit", [{"maxClients": 20}, {"maxClientsPerIp": 20}])
def test_a_crowd_before_several_workers(new_relay: Make, limit: dict[str, int]) -> None:
    """The limit is the server's, whichever of its processes gets the client."""
    relay = new_relay({"workers": 3}, **limit).start()
    with attack(relay, seconds=60), contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(relay.port, patience=60)) for _ in range(60)]
        codes = [wire.reply().code for wire in wires]
        assert codes.count(220) == 20
        assert codes.count(421) == 40


def test_handshakes_in_a_crowd(new_relay: Make) -> None:
    """Clients over the limit cost no handshake."""
    relay = new_relay(secure=True, maxClients=5).start()
    with attack(relay, ordinary=0, seconds=20), contextlib.ExitStack() as stack:
        let_in = 0
        for _ in range(40):
            wire = stack.enter_context(Wire(relay.port))
            with contextlib.suppress(OSError):
                encrypt(wire)
                let_in += 1
        assert let_in == 5
