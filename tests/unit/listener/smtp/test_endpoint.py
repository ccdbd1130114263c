"""The commands of one listener."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from listener.api.decision import Reply
from listener.smtp.endpoint import LONGEST_KEPT, MOST_KEPT, VerbTable
from listener.smtp.replies import BAD_COMMAND, CONTROL_CHARACTERS, DISABLED, NOT_HTTP, NOT_TEXT
from tests.support.scripted import a_session


class Peer:
    """A connection that notes what it is told; `broken` says that it cannot answer a bad command."""

    def __init__(self, *, broken: bool = False) -> None:
        self.session = a_session()
        self.told: list[object] = []
        self._broken = broken

    def error(self, reply: Reply) -> None:
        if self._broken:
            raise ZeroDivisionError
        self.told.append(reply)

    def finish(self, reply: Reply | None, *, linger: bool = False) -> None:
        self.told.append(("end", reply))

    def fail(self) -> None:
        self.told.append("failed")


def told(line: bytes, peer: Peer | None = None) -> list[object]:
    def note(connection: Any, argument: str) -> None:
        connection.told.append(argument)

    def fault(connection: Any, argument: str) -> None:
        raise ZeroDivisionError

    peer = peer or Peer()
    VerbTable({"NOOP": note, "HELP": fault}, ["vrfy"]).carry_out(peer, line)  # type: ignore[arg-type]
    return peer.told


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"NOOP", ""),
        (b"noop a b", "a b"),
        (b"NoOp\tx", "x"),
        ("NOOP ü".encode(), "ü"),
        (b"NOOP \xff", NOT_TEXT),
        (b"NOOP a\0b", CONTROL_CHARACTERS),
        (b"NOOP a\rb", CONTROL_CHARACTERS),
        (b"VRFY x", DISABLED),
        (b"XYZZY", BAD_COMMAND),
        (b"GET / HTTP/1.1", ("end", NOT_HTTP)),
    ],
)
def test_a_line_is_a_command_or_has_its_refusal(line: bytes, expected: object) -> None:
    assert told(line) == [expected]


@pytest.mark.parametrize(("line", "broken"), [(b"HELP", False), (b"XYZZY", True)])
def test_a_fault_is_logged_with_its_session_and_answered(
    line: bytes, broken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert told(line, Peer(broken=broken)) == ["failed"]
    (record,) = caplog.records
    assert vars(record)["session"] == "session-1"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


class Commands:
    """A table whose MAIL and RCPT read their argument, and AUTH takes its own."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.peer = Peer()
        self.table = VerbTable(
            {"MAIL": self._note, "RCPT": self._note, "AUTH": self._note},
            [],
            {"MAIL": self._upper, "RCPT": self._fault},
        )

    def _note(self, connection: Any, argument: str) -> None:
        connection.told.append(argument)

    def _upper(self, argument: str) -> str:
        self.read.append(argument)
        return argument.upper()

    def _fault(self, argument: str) -> str:
        self.read.append(argument)
        raise ZeroDivisionError

    def carry_out(self, *lines: bytes) -> list[object]:
        for line in lines:
            self.table.carry_out(self.peer, line)  # type: ignore[arg-type]
        return self.peer.told


def test_the_argument_of_the_same_line_is_read_once() -> None:
    commands = Commands()
    assert commands.carry_out(b"MAIL a", b"MAIL a", b"mail a", b"MAIL b", b"MAIL a") == list("AAABA")
    assert commands.read == ["a", "a", "b"]


def test_a_line_whose_reading_fails_is_read_again() -> None:
    commands = Commands()
    assert commands.carry_out(b"RCPT a", b"RCPT a") == ["failed", "failed"]
    assert commands.read == ["a", "a"]


def test_lines_of_other_commands_and_long_lines_are_not_remembered() -> None:
    commands = Commands()
    long = b"MAIL " + b"x" * LONGEST_KEPT
    commands.carry_out(b"AUTH PLAIN AHVzZXIAc2VjcmV0", long, long)
    assert len(commands.read) == 2
    kept = [line for value in vars(commands.table).values() if isinstance(value, dict) for line in value]
    assert not any(b"AHVz" in line or len(line) > LONGEST_KEPT for line in kept)


def test_so_many_lines_are_remembered_and_no_more() -> None:
    commands = Commands()
    commands.carry_out(*(b"MAIL %d" % number for number in range(2 * MOST_KEPT + 1)))
    sizes = [len(value) for value in vars(commands.table).values() if isinstance(value, dict)]
    assert max(sizes) <= MOST_KEPT
