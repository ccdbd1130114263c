"""The lines of a dialogue as logs show them: no login, whatever its shape and place."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator

import pytest

from functions.smtp_client import dialogue
from functions.smtp_client.dialogue import client_line, server_line
from functions.smtp_client.reply import Lost
from functions.smtp_client.wire import Wire


@pytest.mark.parametrize(
    "line",
    [
        "EHLO client.example",
        "ehlo [127.0.0.1]",
        "HELO [IPv6:2001:db8::1]",
        "MAIL FROM:<a@client.example> SIZE=12",
        "mail from: <a@client.example>",
        "RCPT TO:<b@server.example> NOTIFY=NEVER",
        "XCLIENT NAME=a.example ADDR=192.0.2.1",
        "DATA",
        "RSET",
        "starttls",
        "QUIT",
        "AUTH",
        "AUTH LOGIN",
    ],
)
def test_a_command_is_shown(line: str) -> None:
    assert client_line(line) == line


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("AUTH PLAIN AGJvYgBzZWNyZXQ=", "AUTH PLAIN ***"),
        ("auth xoauth2 dXNlcj1ib2I=", "auth xoauth2 ***"),
        ("AUTH\tLOGIN\tYm9i", "AUTH LOGIN ***"),
        ("AUTH secret", "AUTH ***"),
        ("AUTH  PLAIN  a b c", "AUTH PLAIN ***"),
        ("NOOP secret", "NOOP ***"),
        ("DATA secret", "DATA ***"),
        ("MAIL secret", "MAIL ***"),
        ("EHLO bob secret", "EHLO ***"),
        ("EHLO bob:secret@x", "EHLO ***"),
        ("XCLIENT secret", "XCLIENT ***"),
        ("XCLIENT LOGIN=a PASSWORD=secret", "XCLIENT LOGIN=a PASSWORD=***"),
        ("MAIL FROM:<a@b.example> SIZE=1 PASSWORD=secret", "MAIL FROM:<a@b.example> SIZE=1 PASSWORD=***"),
        ("MAIL FROM:<a@b.example> AUTH=secret", "MAIL FROM:<a@b.example> AUTH=***"),
        ("RCPT TO:<a@b.example> token=secret", "RCPT TO:<a@b.example> token=***"),
        ("secret", "*** (no command)"),
        ("PASS secret", "*** (no command)"),
        (" AUTH PLAIN secret", "*** (no command)"),
        ("", "*** (no command)"),
    ],
)
def test_what_may_be_a_login_is_hidden(line: str, shown: str) -> None:
    assert client_line(line) == shown


@pytest.mark.parametrize("name", ["XCLIENT", "XFORWARD"])
@pytest.mark.parametrize(
    "argument", ["A=" * 2_000 + " !", "A= " * 1_300 + "!", "A=" + " " * 4_000 + "!", "A" * 4_000]
)
def test_no_line_of_a_stranger_costs_time(name: str, argument: str) -> None:
    began = time.process_time()
    assert client_line(f"{name} {argument}") == f"{name} ***"
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("334 UGFzc3dvcmQ6", "334 ***"),
        ("334-eyJzdGF0dXMiOiI0MDEifQ==", "334 ***"),
        ("334", "334 ***"),
        ("250-SIZE 1000", "250-SIZE 1000"),
        ("550 no\x1b[2J", "550 no\\x1b[2J"),
    ],
)
def test_a_challenge_is_hidden(line: str, shown: str) -> None:
    assert server_line(line) == shown


def test_a_line_is_bounded() -> None:
    assert len(client_line(f"MAIL FROM:<{'a' * 9_000}>")) <= dialogue.MOST + 1
    assert len(server_line(f"250 {'a' * 9_000}")) <= dialogue.MOST + 1


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Wire(ours, 5.0, lambda: 60.0), theirs


def test_a_reply_without_the_secrets_that_it_repeats(pair: tuple[Wire, socket.socket]) -> None:
    wire, server = pair
    wire.hide("", "abc", "hunter2")
    server.sendall(b"535-5.7.8 you said hunter2\r\n535 5.7.8 abc hunter2hunter2\r\n")
    reply = wire.reply()
    assert reply.lines == ("5.7.8 you said ***", "5.7.8 abc ******")
    server.sendall(b"334 hunter2\r\n")
    assert wire.reply().lines == ("hunter2",)  # a digest is made of it
    server.sendall(b"hunter2?\r\n")
    with pytest.raises(Lost) as lost:
        wire.reply()
    assert "hunter2" not in str(lost.value)


@pytest.mark.parametrize(("level", "lines"), [(logging.INFO, 0), (logging.DEBUG, 5)])
def test_a_dialogue_is_shown_only_at_debug(level: int, lines: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(level, "smtp_relay.dialogue")
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as ours,
        listening.accept()[0] as theirs,
    ):
        wire = Wire(ours, 5.0, lambda: 60.0)
        wire.show("hop:25")
        theirs.sendall(b"250 ok\r\n334 \r\n")
        wire.command("NOOP")
        wire.command("hunter2", secret=True)
        wire.tell_mail(5)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["C: NOOP", "S: 250 ok", "C: ***", "S: 334 ***", "C: (5 bytes of mail)"][:lines]
