"""The link to one client: what waits to be read, what waits to be sent, when patience ends.

This is aiosmtpd's protocol class with its own loop: no task, no stream reader and no timer per
connection. What is done with a line is up to `listener.smtp.connection`. docs/adr/protocol.md tells what
each of these choices brought, measured.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from aiosmtpd.smtp import SMTP

from listener.api.decision import Reply
from listener.api.session import Session, Transaction
from listener.intake.capture import Capture
from listener.smtp.data import DataReader

if TYPE_CHECKING:
    from listener.flows.flow import ConnectionState
    from listener.mailauth.dns.iprev import FoundName
    from listener.smtp.auth import Exchange
    from listener.smtp.endpoint import Port

log = logging.getLogger("smtp_relay.smtp")

MAX_BUFFER: Final = 131_072
"""Octets that may wait while a command is being carried out; then the socket is not read."""

MAX_ERRORS: Final = 20
"""Bad commands on one connection before 421, as many peers have it."""

MAX_IDLE_COMMANDS: Final = 100
"""Commands that bring no mail nearer (NOOP, RSET, VRFY, EHLO …) between two mails."""

LINGER: Final = 2.0
"""Seconds that a client whose connection we end gets to read why: closing a socket with unread
octets in it resets the connection, and the reply is lost on the way."""

GRACE: Final = 2.0
"""Seconds of silence after which a client is sent away once the server is stopping. Who had just
connected sends a mail meanwhile, and who has its answer says QUIT: many clients take a 421 to that
for a failure of the mail before it."""


TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Too many errors, closing the connection")
TOO_MUCH_CHATTER: Final = Reply(421, "4.7.0", "Too many commands without a mail, closing the connection")
TIMED_OUT: Final = Reply(421, "4.4.2", "Timed out waiting for you, closing the connection")
TOO_SLOW: Final = Reply(421, "4.4.2", "Data comes in too slowly, closing the connection")
SHUTTING_DOWN: Final = Reply(421, "4.3.2", "Service is shutting down, try again later")
FAULT: Final = Reply(451, "4.3.0", "Local error in processing, try again later")

# What the next octets are.
PROXY, WAIT, COMMAND, SASL, DATA, CLOSED, TLS = range(7)


class Link(SMTP):
    """The part of a connection that knows no command. `port` holds what all connections of its
    listener share."""

    # What few connections ever set: a default in the class costs the others nothing.
    let_in = False
    """Whether it was counted as an open connection."""
    trusted_as = ""
    """The address by which XCLIENT and XFORWARD are permitted: the peer's, or what PROXY said."""
    forwarded: dict[str, str] | None = None
    """What XFORWARD told of the next mail."""
    vouched: str | None = None
    """The user that XCLIENT says has logged in, until the client is greeted."""
    name_told = False
    """Whether XCLIENT told the client's name, or that it has none."""
    naming: asyncio.Task[FoundName] | None = None
    """The search for the client's name, while it goes on."""
    _ended = False
    _finished = False
    _dropped = 0
    _tls_began = 0.0
    _tls_done: Callable[[], None]

    def __init__(self, port: Port) -> None:
        # Not calling super().__init__: it inspects the class and the handler by reflection for
        # every connection and sets up a stream reader that is never used here.
        self.port = port
        self.loop = port.loop
        self.transport: Any = None
        self.tls_active = False
        self.session: Session = None  # type: ignore[assignment]  # set by connection_made
        self.transaction: Transaction | None = None
        self.exchange: Exchange | None = None
        self.reader: DataReader | None = None
        self.capture: Capture | None = None
        self.flows: ConnectionState = None  # type: ignore[assignment]  # set by begin
        self.state = WAIT
        self.deadline = 0.0
        self.data_started = 0.0
        self.data_began = 0.0
        self.messages = 0
        self.refused_recipients = 0
        self.errors = 0
        self.idle_commands = 0
        self.auth_failures = 0
        self.opened_at = port.now
        self.admitted_as: str | None = None
        self.committing = False
        self._buffer = b""
        self._at = 0
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._reading_paused = False
        self._running = False
        self._out: list[bytes] = []

    def _end(self) -> None:
        """The client says no more: end the connection unless an answer is being made."""
        if self.state not in (WAIT, CLOSED) and not self._paused:
            self.finish(None)

    def pause_writing(self) -> None:
        """The client does not read its replies: carry out no more commands."""
        self._paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused = False
        self.run()

    def run(self) -> None:
        """Carry out every complete line that waits, as far as the state allows."""
        if self._running:
            # A reply that was there at once: the loop below, further up the stack, goes on.
            return
        self._running = True
        try:
            self._run()
            if self._ended:
                self._end()
        finally:
            self._running = False

    def _run(self) -> None:
        while self.waiting and not self._paused:
            if not self.carry_out(self.state):
                break
        if self.port.draining:
            self.drain()
        if self._out:
            self.flush()
        if self._reading_paused and self.waiting <= MAX_BUFFER // 2 and self.state != CLOSED:
            self._reading_paused = False
            self.transport.resume_reading()

    @property
    def waiting(self) -> int:
        """How many octets came in and were not carried out yet."""
        return len(self._buffer) - self._at

    def take_rest(self) -> bytes:
        """Take all that waits out of the buffer."""
        rest = self._buffer[self._at :]
        self._buffer, self._at = b"", 0
        return rest

    def idle(self) -> bool:
        """Count a command that brings no mail nearer; True when the connection was ended."""
        self.idle_commands += 1
        if self.idle_commands > MAX_IDLE_COMMANDS:
            self.finish(TOO_MUCH_CHATTER, linger=True)
            return True
        return False

    def settle(self, outcome: Any | Awaitable[Any], then: Callable[[Any], None], *, wait: int = WAIT) -> None:
        """Go on with `then(outcome)`: at once, or when the awaited outcome is there. Nothing
        else is carried out in between."""
        # What is there at once is None, a Reply or a DataOutcome, both of them tuples.
        if outcome is None or isinstance(outcome, tuple):
            then(outcome)
            return
        self.state = wait
        self._task = self.loop.create_task(self._awaited(outcome, then))

    async def _awaited(self, outcome: Awaitable[Any], then: Callable[[Any], None]) -> None:
        try:
            result = await outcome
            if self.state == WAIT:
                self.state = COMMAND
            self._task = None
            then(result)
        except Exception:
            log.exception("fault while waiting for filters", extra={"session": self.session.id})
            self.committing = False
            self.reset_transaction()
            if self.state != CLOSED:
                self.state = COMMAND
                self.reply(FAULT)
        self.go_on()

    def go_on(self) -> None:
        """Something that the client waited for is done: answer, and carry out what waits."""
        if self.state != CLOSED:
            self.touch()
            self.run()

    def reset_transaction(self) -> None:
        """Forget the mail in the making (RSET, EHLO, MAIL, STARTTLS)."""
        if self.capture is not None:
            self.capture.discard()
            self.capture = None
        self.reader = None
        self.transaction = None
        if self.flows is not None:
            self.flows.reset()

    def reply(self, reply: Reply) -> None:
        """Queue one reply; it leaves with the others when no more commands wait."""
        self._out.append(self.port.encode(reply))

    def write(self, data: bytes) -> None:
        """Queue octets; they leave when no more commands wait."""
        self._out.append(data)

    def flush(self) -> None:
        """Send what is queued, in one write."""
        if self.transport is not None and self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            if not self._finished:
                self.transport.write(data)

    def error(self, reply: Reply) -> None:
        """Answer a bad command; too many end the connection."""
        self.errors += 1
        if self.errors >= MAX_ERRORS:
            self.finish(TOO_MANY_ERRORS, linger=True)
        else:
            self.reply(reply)

    def finish(self, reply: Reply | None, *, linger: bool = False) -> None:
        """Answer, then close: what is queued is sent, what comes in is dropped. With `linger` the
        client is waited for a little, so that the reply reaches it."""
        if self.state == CLOSED:
            return
        if reply is not None:
            self.reply(reply)
        self.state = CLOSED
        self.take_rest()
        self.flush()
        self._finished = True
        self.reset_transaction()
        self._cancel()
        if linger and not (self._ended or self.transport.is_closing()) and self.transport.can_write_eof():
            self.deadline = self.port.now + LINGER
            self.transport.write_eof()
            if self._reading_paused:
                self._reading_paused = False
                self.transport.resume_reading()
        else:
            self.deadline = self.port.now + self.port.close_timeout
            self.transport.close()

    def hang_up_after(self, reply: Reply) -> None:
        """A 421 promises that the connection ends (RFC 5321 section 3.8)."""
        if reply.code == 421:
            self.finish(None)

    def touch(self) -> None:
        """The client did something whole: it has its patience again."""
        self.deadline = self.port.now + self.port.socket_timeout

    def expire(self, now: float) -> None:
        """Called each second: end the connection when its deadline passed or DATA crawls."""
        if self.state == CLOSED:
            # The client does not read the rest, or does not close: the transport would wait for ever.
            if now > self.deadline:
                self.transport.abort()
        elif self.state == WAIT:
            return
        elif now > self.deadline:
            if self.state in (PROXY, TLS):
                log.info(
                    "no PROXY header came" if self.state == PROXY else "no TLS handshake came",
                    extra={"session": self.session.id, "ip": self.session.ip, "listener": self.port.name},
                )
                self.finish(None)
            else:
                self.finish(SHUTTING_DOWN if self.port.draining else TIMED_OUT)
        elif self.state == DATA:
            assert self.capture is not None
            seconds = now - self.data_started - self.port.socket_timeout
            if seconds > 0 and self.capture.size < seconds * self.port.min_data_rate:
                self.finish(TOO_SLOW, linger=True)

    def drain(self) -> None:
        """The server is stopping: a mail being taken is finished, and there is time for little else."""
        if self.state in (PROXY, TLS) or (self.transaction is None and self.state in (COMMAND, SASL)):
            self.deadline = min(self.deadline, self.port.now + GRACE)

    @property
    def takes_no_more(self) -> bool:
        """Whether the server is stopping and the client has sent a mail: the next one goes to another
        server."""
        return self.port.draining and self.messages > 0

    def _cancel(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task(self.loop):
            self._task.cancel()
        self._task = None
        if self.naming is not None:
            self.naming.cancel()
            self.naming = None

    def carry_out(self, state: int) -> bool:
        """Do what the octets that wait ask for in this state; False when that needs more of them."""
        raise NotImplementedError
