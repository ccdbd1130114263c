"""One SMTP connection: a state machine on the transport's callbacks (RFC 5321).

All changes of state are in this file. `opening` has the beginning of a connection, `incoming` its
mails, `stream` its bytes; the commands are in `listener.smtp.commands`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from aiosmtpd.smtp import SMTP

from listener.api.decision import Reply
from listener.api.session import Session
from listener.flows.flow import ConnectionState
from listener.smtp import replies
from listener.smtp.connection import state as bounds
from listener.smtp.connection.incoming import MailReception
from listener.smtp.connection.opening import Opening, new_session
from listener.smtp.connection.pending import Pending
from listener.smtp.connection.state import CLOSED, COMMAND, DATA, PROXY, SASL, TLS, WAIT, ExchangeLines
from listener.smtp.connection.stream import MAX_LINE, MAX_QUEUED, LineTooLong, Stream
from listener.smtp.endpoint import Endpoint, failed
from listener.smtp.tls.handshake import HANDSHAKE, Handshake

log = logging.getLogger("smtp_relay.smtp")


class Connection(SMTP):
    """A connection of one endpoint.

    Of aiosmtpd's class only the type is used. Its constructor is not called, because it inspects
    class and handler by reflection for each connection and makes a stream reader; its methods are
    overridden or never called.
    """

    auth_failures = 0
    _exchange: ExchangeLines | None = None
    _errors = 0
    _finished = False
    """True if the server ends the connection, and there is no mail or answer to give up."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.loop = endpoint.loop
        self.stream: Stream = None  # type: ignore[assignment]  # set by connection_made
        self.session: Session = None  # type: ignore[assignment]  # set by connection_made
        self.opening: Opening = None  # type: ignore[assignment]  # set by connection_made
        self.flows: ConnectionState = None  # type: ignore[assignment]  # set by use
        self.pending = Pending(self)
        self.mail = MailReception(self)
        # Attributes that commands read are the connection's own: those of the class are slower to read.
        self.state = WAIT
        self._patience = endpoint.limits.socket_timeout
        self._opened_at = endpoint.now
        self._deadline = 0.0
        self._idle_commands = 0
        self._running = False
        self._ended = False
        """True if the client has closed its side."""
        self._queued = False
        """True while it waits for its turn to execute the received commands."""

    # -- the transport's callbacks -----------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Take a new connection."""
        self.stream = self.new_stream(transport)
        self.session = new_session(self.endpoint, transport)
        self.opening = Opening(self)
        self.endpoint.opened(self)
        self.opening.start()

    def new_stream(self, transport: Any) -> Stream:
        """The stream over a transport."""
        return Stream(transport, self.endpoint.flushes)

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        stream, state = self.stream, self.state
        if state is COMMAND and not stream.waiting and self._carried_out_alone(data):
            return
        if state is DATA and not self._queued and self.endpoint.turns.take(self.mail.feed, data):
            if self.state is not COMMAND or not stream.waiting:
                return
        elif state is CLOSED:
            stream.drop(len(data))
            return
        else:
            stream.append(data)
        self.run()
        if self.state is not CLOSED:
            stream.throttle()

    def eof_received(self) -> bool | None:
        """The client closed its side; its last commands are answered all the same (`printf … | nc`)."""
        if self.state in (CLOSED, PROXY):
            return False
        self._ended = True
        self._end()
        return self.state is not CLOSED

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; a mail whose last byte came goes on (RFC 5321 section 4.5.4.1)."""
        self.state = CLOSED
        self.stream.lost()
        if not self._finished:
            self.stream.take_rest()
            if not self.mail.committing:
                self._give_up()
        endpoint = self.endpoint
        endpoint.closed(self)
        if self.opening.leave():
            endpoint.observer.connection_closed(endpoint.name, self.loop.time() - self._opened_at)

    def pause_writing(self) -> None:
        """The client does not read its replies: execute no more commands."""
        self.stream.pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.stream.resume()
        self.run()

    # -- changes of state that other objects request ------------------------------------------

    def read_proxy_header(self) -> None:
        """The next bytes are the header of a PROXY protocol."""
        self.state = PROXY
        self._deadline = self.endpoint.now + min(bounds.PROXY_PATIENCE, self._patience)

    def wait(self) -> None:
        """Keep incoming bytes until `ready`, `resume` or the end."""
        self.state = WAIT

    def use(self, flows: ConnectionState) -> None:
        """The flows that serve this client."""
        self.flows = flows

    def greet(self) -> None:
        """The client may stay: greet it, and accept its commands."""
        self.state = COMMAND
        self.stream.write(self.endpoint.ehlo.greeting)
        self.stream.flush()

    def start_tls(self, done: Callable[[], None]) -> None:
        """Encrypt from here on; `done` is called after the handshake."""
        self.state = TLS
        self._deadline = self.endpoint.now + min(HANDSHAKE, self._patience)
        Handshake(self, done).start()

    def close(self) -> None:
        """The handshake failed: drop incoming bytes until the transport is gone."""
        self.state = CLOSED

    @property
    def closed(self) -> bool:
        """True if the connection ends."""
        return self.state is CLOSED

    def forget(self) -> None:
        """Forget the client's words in clear text, once TLS is active (RFC 3207 section 4.2)."""
        self.mail.forget()
        self.flows.restart()
        self.session.greeted("", esmtp=False)
        self.state = COMMAND

    def begin_exchange(self, exchange: ExchangeLines) -> None:
        """The client's next lines belong to an AUTH exchange."""
        self._exchange = exchange
        self.state = SASL

    def end_exchange(self) -> None:
        """The exchange is over: the next line is a command."""
        self._exchange = None
        self.state = COMMAND

    def read_data(self) -> None:
        """The next bytes are a mail."""
        self.state = DATA
        self._deadline = self.endpoint.now + self._patience

    def mail_ended(self, rest: bytes) -> None:
        """A mail came in whole; `rest` are the bytes after it."""
        if rest:
            self.stream.append(rest)
        self.state = WAIT

    def mail_answered(self, answers: tuple[Reply, ...]) -> None:
        """The mail is settled: answer (once; once per recipient in LMTP) and go on."""
        self._idle_commands = 0
        if self.state is CLOSED:
            return
        self.state = COMMAND
        self._deadline = self.endpoint.now + self._patience
        for reply in answers:
            self.reply(reply)
        for reply in answers:
            if reply.code == 421:
                self.hang_up_after(reply)
        if self.stream.waiting or self._ended or self.endpoint.ending:
            self.run()
        elif not self._running:
            self.stream.flush()

    def ready(self) -> None:
        """The outcome that the client waited for has come: the next line is a command."""
        if self.state is WAIT:
            self.state = COMMAND

    def resume(self) -> None:
        """Send queued bytes, and execute waiting commands."""
        if self.state is not CLOSED:
            self.touch()
            self.run()

    def fail(self) -> None:
        """An unexpected error happened: give the mail up; the client may retry it."""
        times = self.mail.replies_due
        self.mail.fail()
        if self.state is not CLOSED:
            self.state = COMMAND
            self.reply(replies.FAULT, times)

    # -- lines -------------------------------------------------------------------------------

    def _carried_out_alone(self, data: bytes) -> bool:
        """Execute a command that came alone and whole, as nearly all do. False for all others."""
        size, stream, endpoint = len(data), self.stream, self.endpoint
        if data.find(b"\n") != size - 1 or not 0 < size <= MAX_LINE or stream.paused or self._running:
            return False
        self._running = True
        self._deadline = endpoint.now + self._patience
        endpoint.verbs.carry_out(self, data[:-2] if data.endswith(b"\r\n") else data[:-1])
        self._running = False
        if stream.waiting or self._ended or endpoint.ending:
            self.run()
        else:
            stream.flush()
        return True

    def run(self) -> None:
        """Carry out the complete lines that wait, as far as the state and this turn of the loop allow."""
        if self._running or self._queued:
            # The reply was immediate, so the loop below, further up the stack, goes on.
            return
        stream, turns = self.stream, self.endpoint.turns
        self._running = True
        try:
            self._queued = turns.work(stream, self._carry_out, self._go_on_in_turn)
            if self.endpoint.ending:
                self.drain()
            stream.flush()
            if self.state is not CLOSED:
                stream.throttle(MAX_QUEUED) if self._queued else stream.unthrottle()
            if self._ended:
                self._end()
        finally:
            self._running = False

    def _go_on_in_turn(self) -> None:
        self._queued = False
        self.run()

    def _carry_out(self) -> bool:
        """Handle the waiting bytes in this state; False if that needs more of them."""
        state = self.state
        if state is COMMAND or state is SASL:
            try:
                line = self.stream.take_line(sasl=state is SASL)
            except LineTooLong as too_long:
                return self._refuse_line(ended=too_long.ended)
            if line is None:
                return False
            self.touch()
            self._obey(line)
            return True
        if state is DATA:
            self.mail.feed(self.stream.take_rest())
            return True
        return state is PROXY and self.opening.take_proxy_header()

    def _refuse_line(self, *, ended: bool) -> bool:
        """Answer a line that is too long. One that does not end either ends the connection."""
        self.touch()
        mechanism = "" if self._exchange is None else self._exchange.mechanism
        refusal = replies.AUTH_LINE_TOO_LONG if mechanism else replies.LINE_TOO_LONG
        self.end_exchange()
        self.error(refusal, mechanism)
        if not ended:
            self.finish(None, linger=True)
        return ended

    def _obey(self, line: bytes) -> None:
        """Execute one line."""
        if self.state is not SASL:
            self.endpoint.verbs.carry_out(self, line)
            return
        assert self._exchange is not None
        try:
            self._exchange.answer(line)
        except Exception:  # noqa: BLE001 - `failed` logs it
            failed(self)

    # -- replies and counts ------------------------------------------------------------------

    def reply(self, reply: Reply, times: int = 1) -> None:
        """Queue a reply; it leaves with the others when no more commands wait."""
        line = self.endpoint.encoded.get(reply)
        if line is None:
            line = self.endpoint.encode(reply)
        self.stream.write(line if times == 1 else line * times)

    def error(self, reply: Reply, mechanism: str = "", user: str | None = None) -> None:
        """Answer a bad command, or a bad login by `mechanism` as `user`; too many end the connection."""
        self.endpoint.refusals.command(self.session, reply, mechanism, user)
        self._errors += 1
        if self._errors >= bounds.MAX_ERRORS:
            self.finish(replies.TOO_MANY_ERRORS, linger=True)
        else:
            self.reply(reply)

    def idle(self) -> bool:
        """Count a command that does not advance a mail; True if the connection was ended."""
        self._idle_commands += 1
        if self._idle_commands > bounds.MAX_IDLE_COMMANDS:
            self.finish(replies.TOO_MUCH_CHATTER, linger=True)
            return True
        return False

    def login_failed(self) -> None:
        """Count a failed login."""
        self.auth_failures += 1

    # -- deadlines and the end ---------------------------------------------------------------

    def touch(self) -> None:
        """The client completed a step: its time limit starts again."""
        self._deadline = self.endpoint.now + self._patience

    def expire(self, now: float) -> None:
        """Called each second: end the connection if its deadline passed or DATA is too slow."""
        if self.state is WAIT:
            return
        last = self.endpoint.retired_until
        if now <= self._deadline and (last is None or now <= last):
            if self.state is DATA and (reply := self.mail.overdue(now)) is not None:
                self.finish(reply, linger=True)
        elif self.state is CLOSED:
            if now > self._deadline:
                self.abort()  # the transport would wait for ever for a client that stays
        elif self.state is PROXY or self.state is TLS:
            what = "PROXY header" if self.state is PROXY else "TLS handshake"
            log.info("no %s came", what, extra=self.endpoint.refusals.about(self.session))
            self.finish(None)
        else:
            self.finish(self.endpoint.ending or replies.TIMED_OUT)

    def drain(self) -> None:
        """The endpoint is ending: an idle client has GRACE left, a mail that comes in is finished."""
        if self.state in (PROXY, TLS) or (self.mail.transaction is None and self.state in (COMMAND, SASL)):
            self._deadline = min(self._deadline, self.endpoint.now + bounds.GRACE)

    def hang_up_after(self, reply: Reply) -> None:
        """A 421 promises that the connection ends (RFC 5321 section 3.8)."""
        if reply.code == 421:
            self.finish(None)

    def finish(self, reply: Reply | None, *, linger: bool = False) -> None:
        """Answer, then close. With `linger` the client gets time to read the reply."""
        if self.state is CLOSED:
            return
        if reply is not None:
            self.reply(reply, 1 if reply.code == 421 else self.mail.replies_due)
        self.state = CLOSED
        self._finished = True
        self._give_up()
        lingers = self.stream.shut(linger=linger and not self._ended)
        self._deadline = self.endpoint.now + (
            bounds.LINGER if lingers else self.endpoint.limits.close_timeout
        )

    def _give_up(self) -> None:
        """Forget the mail in the making, and wait for nothing any more."""
        self.mail.reset()
        self.pending.cancel()
        self.opening.cancel()

    def abort(self) -> None:
        """End the connection now; queued bytes are lost."""
        self.stream.transport.abort()

    def _end(self) -> None:
        """The client sends no more: end the connection unless a reply is being made."""
        if self.state not in (WAIT, CLOSED) and not self.stream.paused and not self._queued:
            self.finish(None)
