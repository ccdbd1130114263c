"""Commands in any order: the server's state is the one that RFC 5321 section 4.1.4 describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.fuzz.budget import SECONDS
from tests.support.clients.wire import Reply, Wire, stuffed
from tests.support.servers.pool import Pool
from tests.support.servers.relay import Relay

_CASE = st.sampled_from([str.upper, str.lower, str.title])


class Conversation(RuleBasedStateMachine):
    """A client's view of one connection, held against the server's answers."""

    relay: ClassVar[Relay]

    def __init__(self) -> None:
        super().__init__()
        self.stored = 0
        self.before = len(self.relay.files())
        self.connect()

    def connect(self) -> None:
        """Begin with a new connection."""
        self.wire = Wire(self.relay.port)
        assert self.wire.reply().code == 220
        self.greeted = self.mail = False
        self.recipients = self.errors = self.idle = 0

    @rule()
    def leave(self) -> None:
        if self.live():
            assert self.wire.command("QUIT").code == 221
        self.wire.socket.close()
        self.connect()

    def teardown(self) -> None:
        self.wire.socket.close()
        assert self.relay.alive
        assert len(self.relay.files()) == self.before + self.stored

    def expect(self, reply: Reply, code: int) -> None:
        assert reply.code == code, reply
        if code >= 500:
            self.errors += 1

    def live(self) -> bool:
        """Below the limits that end a connection."""
        return self.errors < 15 and self.idle < 80

    @precondition(live)
    @rule(verb=st.sampled_from(["EHLO", "HELO"]), case=_CASE)
    def hello(self, verb: str, case: Any) -> None:
        self.expect(self.wire.command(case(verb) + " client.example"), 250)
        self.greeted, self.mail, self.recipients = True, False, 0
        self.idle += 1

    @precondition(live)
    @rule(sender=st.sampled_from(["", "a@client.example", '"x y"@client.example']), case=_CASE)
    def begin(self, sender: str, case: Any) -> None:
        fine = self.greeted and not self.mail
        self.expect(self.wire.command(f"{case('MAIL FROM:')}<{sender}>"), 250 if fine else 503)
        if fine:
            self.mail, self.recipients = True, 0

    @precondition(live)
    @rule(case=_CASE)
    def recipient(self, case: Any) -> None:
        self.expect(self.wire.command(f"{case('RCPT TO:')}<b@server.example>"), 250 if self.mail else 503)
        self.recipients += self.mail

    @precondition(live)
    @rule()
    def bad_recipient(self) -> None:
        self.expect(self.wire.command("RCPT TO:<b@"), 501 if self.mail else 503)

    @precondition(live)
    @rule(body=st.binary(max_size=300), chunks=st.sampled_from([None, 1, 3, 50]))
    def data(self, body: bytes, chunks: int | None) -> None:
        if not self.recipients:
            self.expect(self.wire.command("DATA"), 503)
            return
        self.expect(self.wire.command("DATA"), 354)
        self.wire.send(stuffed(body + b"\r\n"), chunks=chunks)
        taken = b"\0" not in body
        reply = self.wire.reply()
        assert reply.code == (250 if taken else 550), reply
        self.mail, self.recipients = False, 0
        self.stored += taken
        if taken:
            self.idle = 0

    @precondition(live)
    @rule(line=st.sampled_from(["RSET", "NOOP", "NOOP x", "VRFY a", "HELP"]))
    def idle_command(self, line: str) -> None:
        code = {"VRFY a": 252, "HELP": 214}.get(line, 250)
        self.expect(self.wire.command(line), code)
        self.idle += 1
        if line == "RSET":
            self.mail, self.recipients = False, 0

    @precondition(live)
    @rule(line=st.sampled_from(["FOO", "", "MAIL", "RCPT", "DATA x", "RSET x", "EHLO", "VRFY"]))
    def mistake(self, line: str) -> None:
        reply = self.wire.command(line)
        assert reply.code in (500, 501, 503), reply
        self.errors += 1


@pytest.fixture
def machine(pool: Pool) -> Iterator[type[Conversation]]:
    Conversation.relay = pool.get({"spool": {"url": "file://{folder}/spool", "durability": "none"}}, {})
    yield Conversation
    assert "Traceback" not in Conversation.relay.log()


@pytest.mark.slow
def test_any_order(machine: type[Conversation]) -> None:
    examples = max(20, int(SECONDS * 8))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
