"""Arguments of MAIL and RCPT (RFC 5321 section 4.1.2; RFC 1870, 6152, 6531)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.clients.wire import Reply, Wire, submit
from tests.support.servers.relay import Relay, flow


def _mail(relay: Relay, argument: bytes, *, verb: str = "EHLO") -> Reply:
    with Wire(relay.port) as wire:
        wire.greet(verb=verb)
        reply = wire.command(b"MAIL " + argument)
        # Refused or not, the connection goes on.
        assert wire.command("NOOP").code == 250
        return reply


def _rcpt(relay: Relay, argument: bytes, *, mail: str = "MAIL FROM:<a@client.example>") -> Reply:
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command(mail).code == 250
        reply = wire.command(b"RCPT " + argument)
        assert wire.command("NOOP").code == 250
        return reply


@pytest.mark.parametrize(
    "argument",
    [
        "FROM:<>",
        "FROM: <>",
        "from:<a@client.example>",
        "FROM: <a@client.example>",
        "FROM:<a@client.example> ",
        'FROM:<"quoted local"@client.example>',
        r'FROM:<"a\"b"@client.example>',
        "FROM:<a@[192.0.2.1]>",
        "FROM:<a@[IPv6:2001:db8::1]>",
        "FROM:<@relay.example,@other.example:a@client.example>",
        "FROM:<a+tag=x/y@client.example>",
        "FROM:<a@client.example> SIZE=1000",
        "FROM:<a@client.example> size=41943040",
        "FROM:<a@client.example> BODY=8BITMIME",
        "FROM:<a@client.example> BODY=7bit SIZE=3",
        "FROM:<a@client.example> SMTPUTF8",
        "FROM:<dé@éxample.example> SMTPUTF8",
        "FROM:<a@client.example>  SIZE=1  BODY=8BITMIME",
    ],
)
def test_senders_taken(relay: Relay, argument: str) -> None:
    reply = _mail(relay, argument.encode())
    assert (reply.code, reply.text[:6]) == (250, "2.1.0 "), reply


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"", "501 5.5.4"),
        (b"FROM", "501 5.5.4"),
        (b"FROM:", "501 5.1.7"),
        (b"TO:<a@client.example>", "501 5.5.4"),
        (b"<a@client.example>", "501 5.5.4"),
        (b"FROM:<a@client.example", "501 5.1.7"),
        (b"FROM:a@client.example>", "501 5.1.7"),
        (b"FROM:<a@client.example>>", "501 5.1.7"),
        (b"FROM:<a@b@client.example>", "501 5.1.7"),
        (b"FROM:<a b@client.example>", "501 5.1.7"),
        (b"FROM:<a@client example>", "501 5.1.7"),
        (b"FROM:<@client.example>", "501 5.1.7"),
        (b"FROM:<a@>", "501 5.1.7"),
        (b'FROM:<"a@client.example>', "501 5.1.7"),
        (b"FROM:<a\x00@client.example>", "501 5."),
        (b"FROM:<a\r@client.example>", "501 5."),
        (b"FROM:<a\x7f@client.example>", "501 5.1.7"),
        (b"FROM:<a\x1b[2J@client.example>", "501 5.1.7"),
        (b"FROM:<" + b"a" * 600 + b"@client.example>", "501 5.1.7"),
        (b"FROM:<a@" + b"b" * 300 + b".example>", "501 5.1.7"),
        (b"FROM:<a\xff@client.example>", "501 5."),
        ("FROM:<é@client.example>".encode(), "553 5.6.7"),
        (b"FROM:<a@client.example> SIZE=41943041", "552 5.3.4"),
        (b"FROM:<a@client.example> SIZE=99999999999999999999", "552 5.3.4"),
        (b"FROM:<a@client.example> SIZE=", "501 5.5.4"),
        (b"FROM:<a@client.example> SIZE", "501 5.5.4"),
        (b"FROM:<a@client.example> SIZE=-1", "501 5.5.4"),
        (b"FROM:<a@client.example> SIZE=1e3", "501 5.5.4"),
        ("FROM:<a@client.example> SIZE=٣".encode(), "501 5.5.4"),
        (b"FROM:<a@client.example> SIZE=1 SIZE=2", "501 5.5.4"),
        (b"FROM:<a@client.example> BODY=", "501 5.5.4"),
        (b"FROM:<a@client.example> BODY=BINARYMIME", "501 5.5.4"),
        (b"FROM:<a@client.example> SMTPUTF8=yes", "501 5.5.4"),
        (b"FROM:<a@client.example> FOO=bar", "555 5.5.4"),
        (b"FROM:<a@client.example> FOO", "555 5.5.4"),
        (b"FROM:<a@client.example> RET=FULL", "555 5.5.4"),
        (b"FROM:<a@client.example> =", "501 5.5.4"),
        (b"FROM:<a@client.example>SIZE=1", "501 5."),
    ],
)
def test_senders_refused(relay: Relay, argument: bytes, expected: str) -> None:
    reply = _mail(relay, argument)
    assert str(reply).startswith(expected), reply


@pytest.mark.parametrize("parameter", [b"SMTPUTF8", b"AUTH=<>", b"RET=FULL", b"X=1"])
def test_helo_knows_no_parameters_but_size_and_body(relay: Relay, parameter: bytes) -> None:
    assert _mail(relay, b"FROM:<a@client.example> " + parameter, verb="HELO").code in (501, 555)


@pytest.mark.parametrize(
    "argument",
    [
        "TO:<b@server.example>",
        "to: <b@server.example>",
        "TO:<Postmaster>",
        "TO:<postmaster>",
        'TO:<"b c"@server.example>',
        "TO:<@relay.example:b@server.example>",
        "TO:<b@[127.0.0.1]>",
        "TO:<b@server.example> ",
    ],
)
def test_recipients_taken(relay: Relay, argument: str) -> None:
    reply = _rcpt(relay, argument.encode())
    assert (reply.code, reply.text[:6]) == (250, "2.1.5 "), reply


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"", "501 5.5.4"),
        (b"TO:", "501 5.1.3"),
        (b"FROM:<b@server.example>", "501 5.5.4"),
        (b"TO:<>", "501 5.1.3"),
        (b"TO:<b@server.example", "501 5.1.3"),
        (b"TO:<b@server.example>, <c@server.example>", "501 5."),
        (b"TO:<b@server.example><c@server.example>", "501 5.1.3"),
        (b"TO:<b\x00@server.example>", "501 5."),
        (b"TO:<b\r@server.example>", "501 5."),
        (b"TO:<b@server.example\x00>", "501 5."),
        ("TO:<é@server.example>".encode(), "553 5.6.7"),
        (b"TO:<b\xff@server.example>", "501 5."),
        (b"TO:<b@server.example> NOTIFY=NEVER", "555 5.5.4"),
        (b"TO:<b@server.example> FOO=bar", "555 5.5.4"),
    ],
)
def test_recipients_refused(relay: Relay, argument: bytes, expected: str) -> None:
    reply = _rcpt(relay, argument)
    assert str(reply).startswith(expected), reply


def test_smtputf8_opens_both_sides(relay: Relay) -> None:
    reply = _rcpt(relay, "TO:<dé@éxample.example>".encode(), mail="MAIL FROM:<a@client.example> SMTPUTF8")
    assert reply.code == 250


def test_the_null_sender_is_empty(relay_for: Callable[..., Relay]) -> None:
    relay = relay_for({"flows": {"all": flow(filename="from=${from}=.eml")}})
    assert submit(relay.port, b"a: b\r\n", "").code == 250
    (file,) = relay.files()
    assert file.name == "from=_=.eml"  # the name part that an empty value becomes
