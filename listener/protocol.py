"""One SMTP connection: octets in, commands dispatched, replies out (RFC 5321).

This is aiosmtpd's protocol class with its own command loop: no task, no stream reader and no
timer per connection, and commands are carried out as soon as their line is there. What a
command does is in `listener.verbs`; reading DATA is in `listener.data`. docs/adr/protocol.md tells what
each of these choices brought, measured.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from aiosmtpd.smtp import SMTP

from functions.ids import uuid7
from listener import proxy
from listener.capture import Capture
from listener.data import DataReader
from listener.decision import Reply
from listener.session import Session, Transaction
from listener.tls_layer import TlsLayer

if TYPE_CHECKING:
    import ssl

    from listener.flow import ConnectionState
    from listener.port import Port
    from listener.sasl import Exchange

log = logging.getLogger("smtp_relay.smtp")

MAX_LINE: Final = 4096
"""Octets of a command line with its CRLF. RFC 5321 section 4.5.3.1.4 asks for 512 and extensions
raise it; AUTH lines may be longer (MAX_AUTH_LINE)."""

MAX_AUTH_LINE: Final = 12_288  # RFC 4954 section 4: base64 strings up to 12288 octets

MAX_BUFFER: Final = 131_072
"""Octets that may wait while a command is being carried out; then the socket is not read."""

MAX_ERRORS: Final = 20
"""Bad commands on one connection before 421, as many peers have it."""

MAX_IDLE_COMMANDS: Final = 100
"""Commands that bring no mail nearer (NOOP, RSET, VRFY, EHLO …) between two mails."""

HANDSHAKE: Final = 30.0
"""Seconds for a TLS handshake, or the socket timeout where that is shorter."""

LINGER: Final = 2.0
"""Seconds that a client whose connection we end gets to read why: closing a socket with unread
octets in it resets the connection, and the reply is lost on the way."""

MAX_DROPPED: Final = 8_388_608
"""Octets that are read and dropped meanwhile."""

_HTTP: Final = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b"DELETE ", b"PATCH ")

LINE_TOO_LONG: Final = Reply(500, "5.5.2", "Line too long")
NOT_HTTP: Final = Reply(554, "5.5.1", "This is an SMTP server")
TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Too many errors, closing the connection")
TOO_MUCH_CHATTER: Final = Reply(421, "4.7.0", "Too many commands without a mail, closing the connection")
EARLY_TALKER: Final = Reply(554, "5.5.1", "You spoke before the greeting")
TIMED_OUT: Final = Reply(421, "4.4.2", "Timed out waiting for you, closing the connection")
TOO_SLOW: Final = Reply(421, "4.4.2", "Data comes in too slowly, closing the connection")
SHUTTING_DOWN: Final = Reply(421, "4.3.2", "Service is shutting down, try again later")
CONNECT_FAULT: Final = Reply(421, "4.3.0", "Local error, try again later")
FAULT: Final = Reply(451, "4.3.0", "Local error in processing, try again later")

# What the next octets are.
PROXY, WAIT, COMMAND, SASL, DATA, CLOSED, TLS = range(7)


class Connection(SMTP):
    """A connection of one listener. `port` holds what all connections of that listener share."""

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
    naming: asyncio.Task[str] | None = None
    """The search for the client's name, while it goes on."""
    _ended = False
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

    # -- transport callbacks -----------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Take a new connection."""
        self.transport = transport
        port = self.port
        peer = transport.get_extra_info("peername") or ("", 0)
        local = transport.get_extra_info("sockname") or ("", 0)
        ip, remote_port = _peer(peer)
        self.trusted_as = ip
        self.session = Session(
            id=uuid7(),
            listener=port.name,
            ip=ip,
            port=remote_port,
            name=f"[{ip}]",
            server=_address(local),
            lmtp=port.options.lmtp,
        )
        port.opened(self)
        if port.proxies is not None and port.proxies(ip):
            # Counted before it says whom it speaks for, as it may never do so.
            self.state = PROXY
            self.deadline = port.now + min(proxy.PATIENCE, port.socket_timeout)
            if port.gate.hold(self) is not None:
                port.observer.connection_refused(port.name, "limit")
                self.finish(None)
        else:
            self.begin()

    def begin(self) -> None:
        """The client's address is final: let it in, encrypt where it is to be so from the start."""
        self.touch()
        port = self.port
        refusal = port.admit(self)
        if port.secure:
            if refusal is None:
                self.start_tls(self.meet)
            else:
                self.finish(None)  # which, in clear text, could not be read
        elif refusal is not None:
            self.finish(refusal)
        else:
            self.meet()

    def meet(self) -> None:
        """Find out who the client is, ask the filters about it, and greet it (or do not)."""
        self.state = WAIT
        names = self.port.names
        if names is not None and not self.name_told:
            name = names.known(self.session.ip)
            if name is not None:
                self.session.name = name
            elif self.port.needs_names:
                self.settle(names.find(self.session.ip), self._named)
                return
            else:
                # Nobody asks for the name before the mail is taken: `named` waits for it there.
                self.naming = self.loop.create_task(names.find(self.session.ip))
                self.naming.add_done_callback(self._found)
        self._connect()

    def _named(self, name: str) -> None:
        self.session.name = name
        self._connect()

    def _found(self, task: asyncio.Task[str]) -> None:
        if self.naming is task:
            self.naming = None
            if not task.cancelled():
                self.session.name = task.result()

    async def naming_done(self) -> None:
        """Wait until the client's name was found, or not."""
        if self.naming is not None:
            await asyncio.wait((self.naming,))
            self.naming = None

    def _connect(self) -> None:
        try:
            self.flows = self.port.flows.connection(self.session)
            self.settle(self.flows.connect(), self._greet)
        except Exception:
            log.exception("fault while greeting", extra={"session": self.session.id})
            self.finish(CONNECT_FAULT)

    def _greet(self, refusal: Reply | None) -> None:
        if refusal is not None:
            self.finish(refusal)
        elif self.waiting:
            self.finish(EARLY_TALKER, linger=True)
        else:
            if self.vouched is not None:
                self.flows.vouch(self.vouched)
                self.vouched = None
            self.state = COMMAND
            self.write(self.port.greeting)
            self.flush()

    def data_received(self, data: bytes) -> None:
        """Octets came in."""
        if self.state == DATA:
            self._feed(data)
            if self.state != COMMAND or not self._buffer:
                return
        elif self.state == CLOSED:
            self._dropped += len(data)
            if self._dropped > MAX_DROPPED:
                self.transport.abort()
            return
        elif self._buffer:
            self._buffer = self._buffer[self._at :] + data
            self._at = 0
        else:
            self._buffer = data
        self.run()
        if self.waiting > MAX_BUFFER and not self._reading_paused and self.state != CLOSED:
            self._reading_paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool | None:
        """The client closed its side: what it sent is still carried out and answered, as it may
        have closed only that side (`printf … | nc`)."""
        if self.state in (CLOSED, PROXY):
            return False
        self._ended = True
        self._end()
        return self.state != CLOSED

    def _end(self) -> None:
        """The client says no more: end the connection unless an answer is being made."""
        if self.state not in (WAIT, CLOSED) and not self._paused:
            self.finish(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone. A mail whose last octet came is carried on with; its reply
        is lost, which RFC 5321 section 4.5.4.1 leaves to the client to find out."""
        self.state = CLOSED
        self.take_rest()
        if not self.committing:
            self.reset_transaction()
            self._cancel()
        self.port.closed(self)

    def pause_writing(self) -> None:
        """The client does not read its replies: carry out no more commands."""
        self._paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused = False
        self.run()

    # -- commands ----------------------------------------------------------------------------

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
            state = self.state
            if state in (COMMAND, SASL):
                if not self._line():
                    break
            elif state == DATA:
                self._feed(self.take_rest())
            elif state == PROXY:
                if not self._read_proxy_header():
                    break
            else:
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

    def _line(self) -> bool:
        """Take one line from the buffer and carry it out; False when it is not complete."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", at)
        if end < 0 or end - at >= MAX_LINE:
            auth = self.state == SASL or buffer[at : at + 4].upper() == b"AUTH"
            if (len(buffer) if end < 0 else end) - at >= (MAX_AUTH_LINE if auth else MAX_LINE):
                # Not worth reading on: the rest of an overlong line could be anything.
                self.finish(LINE_TOO_LONG, linger=True)
                return False
            if end < 0:
                return False
        line = buffer[at : end - 1] if buffer[end - 1 : end] == b"\r" else buffer[at:end]
        if end + 1 == len(buffer):
            self._buffer, self._at = b"", 0
        else:
            self._at = end + 1
        self.touch()
        try:
            if self.state == SASL:
                assert self.exchange is not None
                self.exchange.answer(self, line)
            else:
                self._command(line)
        except Exception:
            log.exception("fault while carrying out a command", extra={"session": self.session.id})
            self.reset_transaction()
            self.state = COMMAND if self.state != CLOSED else CLOSED
            self.reply(FAULT)
        return True

    def _command(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        handler = self.port.verbs.get(verb) or self.port.verbs.get(verb.upper().rstrip(b"\t "))
        if handler is None:
            if line.startswith(_HTTP):
                self.finish(NOT_HTTP, linger=True)
                return
            self.error(self.port.unknown(verb))
            return
        if b"\0" in argument or b"\r" in argument:
            self.error(Reply(501, "5.5.4", "Control characters in the argument"))
            return
        try:
            text = argument.decode("ascii")
        except UnicodeDecodeError:
            try:
                text = argument.decode("utf-8")
            except UnicodeDecodeError:
                self.error(Reply(501, "5.5.4", "The argument is neither ASCII nor UTF-8"))
                return
        handler(self, text)

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
        if outcome is None or not hasattr(outcome, "__await__"):
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

    # -- who it is, and in private -----------------------------------------------------------

    def _read_proxy_header(self) -> bool:
        """Take the PROXY header from the buffer; False while it is not complete, or is none."""
        try:
            header = proxy.parse(self._buffer)
        except proxy.BadHeader as error:
            log.warning(
                "no PROXY header from a proxy: %s",
                error,
                extra={"session": self.session.id, "ip": self.session.ip, "listener": self.port.name},
            )
            self.port.observer.connection_refused(self.port.name, "proxy")
            self.finish(None)
            return False
        if header is None:
            return False
        self._at = header.length
        if header.endpoints is not None:
            client, server = header.endpoints
            self.become(client[0], client[1])
            self.trusted_as = client[0]
            self.session.server = _address(server)
        self.begin()
        return True

    def become(self, ip: str, port: int) -> None:
        """The client turned out to be another than the peer of the socket."""
        session = self.session
        session.ip, session.port, session.name = ip, port, f"[{ip}]"
        if self.naming is not None:
            self.naming.cancel()
            self.naming = None

    def start_tls(self, done: Callable[[], None]) -> None:
        """Encrypt from here on; `done` is called after the handshake. What waits in the buffer is
        its beginning."""
        assert self.port.tls is not None
        self.state = TLS
        self.deadline = self.port.now + min(HANDSHAKE, self.port.socket_timeout)
        self._tls_done = done
        self._tls_began = self.loop.time()
        layer = TlsLayer(self, self.transport, self.port.tls.context)
        self.transport = layer
        if early := self.take_rest():
            layer.data_received(early)

    def tls_ready(self, tls: ssl.SSLObject) -> None:
        """The handshake is done."""
        if self.state == CLOSED:
            return
        if not self.port.tls.accepts(tls):  # type: ignore[union-attr]
            self.tls_failed("a version that is not permitted for that name")
            self.transport.close()
            return
        self.tls_active = True
        self.session.tls = self.port.tls_facts(tls)
        self.port.observer.stage("tls", self.loop.time() - self._tls_began)
        self.touch()
        self._tls_done()

    def tls_failed(self, reason: str) -> None:
        """The client and we do not agree on TLS, or it does not speak it."""
        log.info(
            "TLS handshake failed: %s",
            reason,
            extra={"session": self.session.id, "ip": self.session.ip, "listener": self.port.name},
        )
        self.state = CLOSED

    # -- DATA --------------------------------------------------------------------------------

    def start_data(self, capture: Capture) -> None:
        """Read the mail from here on."""
        options = self.port.options
        self.capture = capture
        self.reader = DataReader(options.bare_newline, options.max_line_length)
        self.state = DATA
        self.data_started = self.port.now
        self.data_began = self.loop.time() if self.port.measures else 0.0
        self.touch()

    def _feed(self, data: bytes) -> None:
        reader, capture = self.reader, self.capture
        assert reader is not None
        assert capture is not None
        try:
            piece = reader.feed(data)
            if piece:
                capture.feed(piece)
                if reader.flaw is not None:
                    capture.fail(reader.flaw.value)
            if reader.rest is None:
                self.deadline = self.port.now + self.port.socket_timeout
                if capture.size > self.port.drop_limit:
                    self.finish(capture.failure or FAULT, linger=True)
                return
            self._buffer, self._at = reader.rest, 0
            self.reader = None
            self.state = WAIT
            self.committing = True
            self.port.data_complete(self, capture)
        except Exception:
            log.exception("fault while reading a mail", extra={"session": self.session.id})
            self.committing = False
            self.finish(FAULT)

    def data_done(self, *replies: Reply) -> None:
        """The mail is settled: answer (once; once per recipient in LMTP) and go on."""
        self.committing = False
        self.capture = None
        self.transaction = None
        self.idle_commands = 0
        if self.state == CLOSED:
            return
        self.flows.reset()
        self.state = COMMAND
        self.touch()
        for reply in replies:
            self.reply(reply)
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

    # -- replies -----------------------------------------------------------------------------

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
        self.reset_transaction()
        self._cancel()
        if linger and not self._ended and self.transport.can_write_eof():
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
                self.finish(TIMED_OUT)
        elif self.state == DATA:
            assert self.capture is not None
            seconds = now - self.data_started - self.port.socket_timeout
            if seconds > 0 and self.capture.size < seconds * self.port.min_data_rate:
                self.finish(TOO_SLOW, linger=True)

    def drain(self) -> None:
        """The server is stopping: end at once unless a mail is being taken."""
        if self.state in (PROXY, TLS):
            self.finish(None)
        elif self.transaction is None and self.state in (COMMAND, SASL):
            self.finish(SHUTTING_DOWN)

    def _cancel(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task(self.loop):
            self._task.cancel()
        self._task = None
        if self.naming is not None:
            self.naming.cancel()
            self.naming = None


def _peer(peer: Any) -> tuple[str, int]:
    """A socket's peer as canonical address and port; an IPv4-mapped address is IPv4."""
    ip = str(peer[0]) if peer else ""
    if ip.startswith("::ffff:") and "." in ip:
        ip = ip[7:]
    return ip.partition("%")[0], int(peer[1]) if len(peer) > 1 else 0


def _address(local: Any) -> str:
    ip, port = _peer(local)
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
