"""One SMTP connection: who it is, its commands, its mails (RFC 5321).

Commands are carried out as soon as their line is there. What a command does is in
`listener.smtp.commands`; reading DATA is in `listener.smtp.data`; the octets' way in and out is
`listener.smtp.stream`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from functions.ids import uuid7
from listener.api.decision import Reply
from listener.api.session import Session
from listener.intake.capture import Capture
from listener.smtp import proxy
from listener.smtp.data import DataReader
from listener.smtp.stream import CLOSED, COMMAND, DATA, FAULT, MAX_BUFFER, PROXY, SASL, TLS, WAIT, Link
from listener.smtp.tls.layer import TlsLayer

if TYPE_CHECKING:
    import ssl

    from listener.mailauth.dns.iprev import FoundName

log = logging.getLogger("smtp_relay.smtp")

MAX_LINE: Final = 4096
"""Octets of a command line with its CRLF. RFC 5321 section 4.5.3.1.4 asks for 512 and extensions
raise it; AUTH lines may be longer (MAX_AUTH_LINE)."""

MAX_AUTH_LINE: Final = 12_288  # RFC 4954 section 4: base64 strings up to 12288 octets

HANDSHAKE: Final = 30.0
"""Seconds for a TLS handshake, or the socket timeout where that is shorter."""

MAX_DROPPED: Final = 8_388_608
"""Octets that are read and dropped meanwhile."""

_HTTP: Final = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b"DELETE ", b"PATCH ")

LINE_TOO_LONG: Final = Reply(500, "5.5.2", "Line too long")
NOT_HTTP: Final = Reply(554, "5.5.1", "This is an SMTP server")
EARLY_TALKER: Final = Reply(554, "5.5.1", "You spoke before the greeting")
CONNECT_FAULT: Final = Reply(421, "4.3.0", "Local error, try again later")


class Connection(Link):
    """A connection of one listener."""

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
            found = names.known(self.session.ip)
            if found is not None:
                self.session.name, self.session.name_sure = found
            elif self.port.needs_names:
                self.settle(names.find(self.session.ip), self._named)
                return
            else:
                # Nobody asks for the name before the mail is taken: `named` waits for it there.
                self.naming = self.loop.create_task(names.find(self.session.ip))
                self.naming.add_done_callback(self._found)
        self._connect()

    def _named(self, found: FoundName) -> None:
        self.session.name, self.session.name_sure = found
        self._connect()

    def _found(self, task: asyncio.Task[FoundName]) -> None:
        if self.naming is task:
            self.naming = None
            if not task.cancelled():
                self.session.name, self.session.name_sure = task.result()

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
            self.port.refusals.client(self.session, "filters", refusal)
            self.finish(refusal)
        elif self.waiting:
            self.port.refusals.client(self.session, "early", EARLY_TALKER)
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
        elif self._carried_out_alone(data):
            return
        else:
            self._buffer = data
        self.run()
        if self.waiting > MAX_BUFFER and not self._reading_paused and self.state != CLOSED:
            self._reading_paused = True
            self.transport.pause_reading()

    def _carried_out_alone(self, data: bytes) -> bool:
        """Carry out a command that came alone and whole, as nearly all do: the loop and its buffer
        are for the others. False when it is none of those."""
        size = len(data)
        if self.state != COMMAND or size > MAX_LINE or data.find(b"\n") != size - 1:
            return False
        if self._paused or self._running or not size:
            return False
        self._running = True
        self.deadline = self.port.now + self.port.socket_timeout
        self._obey(data[:-2] if data.endswith(b"\r\n") else data[:-1])
        self._running = False
        if self._buffer or self._ended or self.port.draining:
            self.run()
        elif self._out:
            self.flush()
        return True

    def eof_received(self) -> bool | None:
        """The client closed its side: what it sent is still carried out and answered, as it may
        have closed only that side (`printf … | nc`)."""
        if self.state in (CLOSED, PROXY):
            return False
        self._ended = True
        self._end()
        return self.state != CLOSED

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone. A mail whose last octet came is carried on with; its reply
        is lost, which RFC 5321 section 4.5.4.1 leaves to the client to find out."""
        self.state = CLOSED
        self.take_rest()
        if not self.committing:
            self.reset_transaction()
            self._cancel()
        self.port.closed(self)

    def carry_out(self, state: int) -> bool:
        """Do what the octets that wait ask for in this state; False when that needs more of them."""
        if state in (COMMAND, SASL):
            return self._line()
        if state == DATA:
            self._feed(self.take_rest())
            return True
        return state == PROXY and self._read_proxy_header()

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
        self._obey(line)
        return True

    def _obey(self, line: bytes) -> None:
        """Carry out one line. A fault of ours is answered as such, and the mail given up."""
        try:
            if self.state == SASL:
                assert self.exchange is not None
                self.exchange.answer(self, line)
            else:
                self._command(line)
        except Exception:
            log.exception("fault while carrying out a command", extra={"session": self.session.id})
            self.reset_transaction()
            if self.state != CLOSED:
                self.state = COMMAND
                self.reply(FAULT)

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
        session.ip, session.port, session.name, session.name_sure = ip, port, f"[{ip}]", True
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
        if self._buffer or self._ended or self.port.draining:
            self.run()
        elif not self._running:
            self.flush()


def _peer(peer: Any) -> tuple[str, int]:
    """A socket's peer as canonical address and port; an IPv4-mapped address is IPv4."""
    ip = str(peer[0]) if peer else ""
    if ip.startswith("::ffff:") and "." in ip:
        ip = ip[7:]
    return ip.partition("%")[0], int(peer[1]) if len(peer) > 1 else 0


def _address(local: Any) -> str:
    ip, port = _peer(local)
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
