"""The commands of one listener."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from listener.api.decision import Reply
from listener.smtp.endpoint import VerbTable
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
