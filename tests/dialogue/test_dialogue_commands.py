"""The commands of RFC 5321 section 4.1.1, their order (4.1.4) and their replies (4.3.2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.clients.wire import Wire
from tests.support.servers.relay import Relay

Dialogue = Callable[..., None]


def test_a_mail_from_hello_to_quit(dialogue: Dialogue, relay: Relay) -> None:
    dialogue("""
        S: 220 * ESMTP *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<b@server.example>
        S: 250 2.1.5 *
        C: DATA
        S: 354 *
        C: Subject: hello
        C:
        C: body
        C: .
        S: 250 2.0.0 *
        C: QUIT
        S: 221 2.0.0 *
        S: <closed>
    """)
    (mail,) = relay.mails()
    assert mail.endswith(b"\r\nSubject: hello\r\n\r\nbody\r\n")


def test_ehlo_offers(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        reply = wire.greet()
    assert "client.example" in reply.lines[0]
    assert set(reply.lines[1:]) == {
        "PIPELINING",
        "SIZE 41943040",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
    } | {line for line in reply.lines if line == "STARTTLS"}


def test_helo_takes_mail_too(dialogue: Dialogue, relay: Relay) -> None:
    dialogue("""
        S: 220 *
        C: HELO client.example
        S: 250 *
        C: MAIL FROM:<a@client.example>
        S: 250 *
        C: RCPT TO:<b@server.example>
        S: 250 *
        C: DATA
        S: 354 *
        C: old
        C: .
        S: 250 *
    """)
    assert b" with SMTP id " in relay.mails()[0]


def test_commands_out_of_order(dialogue: Dialogue) -> None:
    dialogue("""
        S: 220 *
        C: MAIL FROM:<a@client.example>
        S: 503 5.5.1 *
        C: RCPT TO:<b@server.example>
        S: 503 5.5.1 *
        C: DATA
        S: 503 5.5.1 *
        C: EHLO client.example
        S: 250-...
        C: RCPT TO:<b@server.example>
        S: 503 5.5.1 *
        C: DATA
        S: 503 5.5.1 *
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: MAIL FROM:<a@client.example>
        S: 503 5.5.1 *
        C: DATA
        S: 503 5.5.1 *
        C: RCPT TO:<b@server.example>
        S: 250 2.1.5 *
    """)


@pytest.mark.parametrize("reset", ["RSET", "EHLO client.example", "HELO client.example"])
def test_what_begins_anew_forgets_the_mail(relay: Relay, reset: str) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>").code == 250
        assert wire.command("RCPT TO:<b@server.example>").code == 250
        assert wire.command(reset).code == 250
        assert wire.command("RCPT TO:<b@server.example>").code == 503
        assert wire.command("DATA").code == 503
        wire.envelope("c@client.example", "d@server.example")
        wire.send(b"x: y\r\n.\r\n")
        assert wire.reply().code == 250
    (mail,) = relay.mails()
    assert b"for <d@server.example>" in mail
    assert b"b@server.example" not in mail


def test_small_commands(dialogue: Dialogue) -> None:
    dialogue("""
        S: 220 *
        C: NOOP
        S: 250 2.0.0 *
        C: NOOP whatever it is
        S: 250 2.0.0 *
        C: RSET
        S: 250 2.0.0 *
        C: RSET now
        S: 501 5.5.4 *
        C: VRFY somebody
        S: 252 2.5.? *
        C: VRFY
        S: 501 5.5.4 *
        C: HELP
        S: 214 2.0.0 *
        C: HELP MAIL
        S: 214 2.0.0 *
        C: EXPN list
        S: 502 5.5.1 *
        C: EHLO
        S: 501 5.5.? *
        C: HELO
        S: 501 5.5.? *
        C: QUIT now
        S: 501 5.5.4 *
        C: QUIT
        S: 221 2.0.0 *
        S: <closed>
    """)


def test_data_takes_no_argument(dialogue: Dialogue) -> None:
    dialogue("""
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        S: 250 *
        C: RCPT TO:<b@server.example>
        S: 250 *
        C: DATA now
        S: 501 5.5.4 *
        C: DATA
        S: 354 *
        C: .
        S: 250 2.0.0 *
    """)


@pytest.mark.parametrize(
    "line",
    [
        "NONSENSE",
        "",
        " ",
        "MAILFROM:<a@client.example>",
        "\u00e9HLO client.example",
        "BDAT 3 LAST",
        "ETRN example",
        "SEND FROM:<a@client.example>",
        "TURN",
    ],
)
def test_what_is_no_command(relay: Relay, line: str) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        reply = wire.command(line)
        assert reply.code in (500, 502), reply
        assert reply.text.startswith("5.5."), reply
        assert wire.command("NOOP").code == 250


@pytest.mark.parametrize(
    "line", [b"\x00", b"NOOP\x00", b"\xff\xfe\xfd", b"MAIL\x00FROM:<a@b.example>", b"\x16\x03\x01"]
)
def test_bytes_that_are_not_text(relay: Relay, line: bytes) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        reply = wire.command(line)
        assert reply.code in (500, 501, 502), reply
        assert wire.command("NOOP").code == 250


def test_case_blanks_and_bare_line_feeds(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        assert wire.reply().code == 220
        for line in (
            b"ehlo client.example\n",
            b"Mail From:<a@client.example>\r\n",
            b"rCPT tO:<b@server.example>  \r\n",
            b"noop \r\n",
            b"data\n",
        ):
            wire.send(line)
            assert wire.reply().code in (250, 354), line
        wire.send(b"a: b\r\n.\r\n")
        assert wire.reply().code == 250


def test_several_mails_on_one_connection(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        for number in range(25):
            wire.envelope()
            wire.send(f"Subject: {number}\r\n\r\nx\r\n.\r\n".encode())
            assert wire.reply().code == 250
    subjects = {mail.partition(b"Subject: ")[2].partition(b"\r\n")[0] for mail in relay.mails()}
    assert subjects == {str(number).encode() for number in range(25)}


@pytest.mark.parametrize(
    "name", ["[192.0.2.1]", "[IPv6:2001:db8::1]", "a_b", "x" * 255, "-", "client.example "]
)
def test_names_that_hello_takes(relay: Relay, name: str) -> None:
    with Wire(relay.port) as wire:
        assert wire.greet(name).code == 250


@pytest.mark.parametrize("name", ["", "x" * 256, "a\x01b", "a\x7fb"])
def test_names_that_hello_refuses(relay: Relay, name: str) -> None:
    with Wire(relay.port) as wire:
        assert wire.greet(name).code == 501
        assert wire.command("MAIL FROM:<a@client.example>").code == 503


def test_a_hostile_hello_cannot_forge_a_field(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        assert wire.greet("x) by evil with SMTP; (").code == 250
        wire.envelope()
        wire.send(b"a: b\r\n.\r\n")
        assert wire.reply().code == 250
    received = relay.mails()[0].partition(b"Received: ")[2].partition(b"\r\n")[0]
    assert b"evil with" not in received


def test_every_reply_has_an_enhanced_code(relay: Relay) -> None:
    lines = [
        "MAIL FROM:<>",
        "RCPT TO:<a@b.example>",
        "NOOP",
        "RSET",
        "VRFY x",
        "HELP",
        "EXPN x",
        "FOO",
        "MAIL",
        "RCPT",
        "DATA",
        "AUTH",
        "STARTTLS now",
        "QUIT",
    ]
    with Wire(relay.port) as wire:
        wire.greet()
        for line in lines:
            reply = wire.command(line)
            for text in reply.lines:
                status = text.split(" ", 1)[0]
                assert status.count(".") == 2, f"{line}: {reply}"
                assert status[0] == str(reply.code)[0], f"{line}: {reply}"


def test_enhanced_codes_can_be_hidden(relay_for: Callable[..., Relay]) -> None:
    with Wire(relay_for(hideENHANCEDSTATUSCODES=True).port) as wire:
        assert "ENHANCEDSTATUSCODES" not in wire.greet().lines
        assert not wire.command("NOOP").text[0].isdigit()


def test_offers_can_be_hidden(relay_for: Callable[..., Relay]) -> None:
    relay = relay_for(hidePIPELINING=True, hide8BITMIME=True, hideSMTPUTF8=True, hideSize=True, size=5000)
    with Wire(relay.port) as wire:
        offers = set(wire.greet().lines[1:])
        assert not offers & {"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 5000"}
        assert wire.command("MAIL FROM:<a@client.example> SIZE=5001").code == 552
        assert wire.command("MAIL FROM:<a@client.example> BODY=8BITMIME").code == 555
        assert wire.command("MAIL FROM:<a@client.example> SMTPUTF8").code == 555


def test_commands_can_be_disabled(relay_for: Callable[..., Relay]) -> None:
    with Wire(relay_for(disabledCommands=["VRFY", "help"]).port) as wire:
        wire.greet()
        for line in ("VRFY a", "vrfy a", "HELP"):
            reply = wire.command(line)
            assert (reply.code, reply.text[:5]) == (502, "5.5.1"), reply


def test_banner_and_name(relay_for: Callable[..., Relay]) -> None:
    relay = relay_for(name="mx.example", banner="ready when you are", heloResponse="%s, hello")
    with Wire(relay.port) as wire:
        assert wire.reply() == (220, ("mx.example ready when you are",))
        assert wire.command("HELO client.example").code == 250
        wire.envelope()
        wire.send(b"a: b\r\n.\r\n")
        assert wire.reply().code == 250
    assert b"\tby mx.example with SMTP" in relay.mails()[0]
