"""One listener, as its connections see it: options, limits, replies and shared objects."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from listener.api.decision import DROPPED, Reply
from listener.api.session import Session
from listener.config.listeners import Listener
from listener.config.peers import trusted
from listener.config.smtp import SmtpOptions
from listener.flows.flow import Flows
from listener.intake.accept import Acceptor
from listener.mailauth.dns.iprev import ReverseNames
from listener.smtp.address import READERS, ArgumentReader
from listener.smtp.connection.stream import Flushes
from listener.smtp.connection.turns import Turns
from listener.smtp.connection_limits import ConnectionLimits
from listener.smtp.ehlo import Ehlo, offered_mechanisms
from listener.smtp.rate_limit import RateLimit
from listener.smtp.replies import (
    BAD_COMMAND,
    CONTROL_CHARACTERS,
    DISABLED,
    NOT_HTTP,
    NOT_TEXT,
    RECONFIGURED,
    SHUTTING_DOWN,
)
from listener.smtp.tls.context import ServerTls

log = logging.getLogger("smtp_relay.smtp")

DROP_FACTOR: Final = 4
"""A client may send this multiple of the size limit for a dropped mail; then the connection is cut."""

Verb = Callable[[Any, Any], None]
"""A command: called with its connection and its argument, as text or as its reader read it."""

LONGEST_KEPT: Final = 256
MOST_KEPT: Final = 1_024
"""Bytes of a command line that is remembered, and the number of such lines."""

_HTTP: Final = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b"DELETE ", b"PATCH ")


UNTOLD: Final = frozenset({"PROXY", "\0"})
"""The command words of the first lines of PROXY headers (versions 1 and 2) if no header is expected."""


class OpenConnection(Protocol):
    """The interface that an endpoint and its commands need from its connections."""

    session: Session

    def error(self, reply: Reply) -> None:
        """Answer a bad command."""

    def finish(self, reply: Reply | None, *, linger: bool = False) -> None:
        """Answer, then close."""

    def fail(self) -> None:
        """Answer an unexpected error, and give the mail up."""

    def expire(self, now: float) -> None:
        """Called each second: end an overdue connection."""

    def drain(self) -> None:
        """The endpoint is ending."""

    def abort(self) -> None:
        """End now."""


class VerbTable:
    """The commands of one listener, by verb. `verbs` has them by upper-case name; `disabled` are names,
    in any case, that are known and not offered. HELP names none of UNTOLD.

    `readers` read the arguments of some commands, which are called with the outcome. Such a line is read
    once and remembered, because a client sends many mails with the same sender, and to the same recipients.
    Other lines, which may hold secrets, are not remembered.
    """

    def __init__(
        self,
        verbs: Mapping[str, Verb],
        disabled: Iterable[str],
        readers: Mapping[str, ArgumentReader] = READERS,
    ) -> None:
        off = {name.upper() for name in disabled}
        self.names = tuple(sorted(verbs.keys() - off - UNTOLD))
        self._verbs: dict[bytes, Verb] = {}
        for name in (*self.names, *UNTOLD & verbs.keys()):
            self._verbs[name.encode()] = self._verbs[name.lower().encode()] = verbs[name]
        self._readers = {name.encode(): read for name, read in readers.items()}
        self._known = {name.encode() for name in (*off, *verbs, "HELO", "EHLO")}
        self._lines: dict[bytes, tuple[Verb, Any]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def carry_out(self, connection: OpenConnection, line: bytes) -> None:
        """Execute one command line, given without its line end. A fault in the relay's code is answered as
        such, and the mail given up."""
        try:
            handler, argument = self._lines.get(line) or self._read(line)
            handler(connection, argument)
        except Exception:  # noqa: BLE001 - `failed` logs it
            failed(connection)

    def _read(self, line: bytes) -> tuple[Verb, Any]:
        """The command of a line and its argument, or what answers a bad line."""
        verb, _, argument = line.partition(b" ")
        handler = self._verbs.get(verb)
        if handler is None:
            if b"\t" in verb:
                verb, _, argument = line.partition(b"\t")
            handler = self._verbs.get(verb.upper())
        if handler is None:
            if line.startswith(_HTTP):
                return _finish, NOT_HTTP
            return _error, DISABLED if verb.upper() in self._known else BAD_COMMAND
        if b"\0" in argument or b"\r" in argument:
            return _error, CONTROL_CHARACTERS
        # ASCII first, because nearly all arguments are ASCII, and it is faster.
        text = argument.decode("ascii") if argument.isascii() else _text(argument)
        if text is None:
            return _error, NOT_TEXT
        read = self._readers.get(verb.upper())
        if read is None:
            return handler, text
        found = handler, read(text)
        if len(line) <= LONGEST_KEPT:
            if len(self._lines) >= MOST_KEPT:
                self._lines.clear()
            self._lines[line] = found
        return found


def _error(connection: OpenConnection, reply: Reply) -> None:
    connection.error(reply)


def _finish(connection: OpenConnection, reply: Reply) -> None:
    connection.finish(reply, linger=True)


def _text(argument: bytes) -> str | None:
    try:
        return argument.decode("utf-8")
    except UnicodeDecodeError:
        return None


def failed(connection: OpenConnection) -> None:
    """A line of this connection raised an error, which is being handled: log it, and answer it."""
    log.exception("fault while carrying out a command", extra={"session": connection.session.id})
    connection.fail()


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of each connection. Sizes are bytes, times seconds; 0 messages is no limit."""

    drop_size: int
    max_recipients: int
    max_refused_recipients: int
    max_messages: int
    max_auth_failures: int
    socket_timeout: float
    close_timeout: float
    min_data_rate: int
    max_data_time: float

    @classmethod
    def of(cls, options: SmtpOptions) -> Limits:
        """The bounds of a listener's options."""
        return cls(
            drop_size=options.size * DROP_FACTOR + 1_048_576,
            max_recipients=options.max_recipients,
            max_refused_recipients=options.max_refused_recipients,
            max_messages=options.max_messages_per_connection or 0,
            max_auth_failures=options.max_auth_failures,
            socket_timeout=options.socket_timeout / 1000,
            close_timeout=options.close_timeout / 1000,
            min_data_rate=options.min_data_rate,
            max_data_time=options.max_data_time / 1000,
        )


class Endpoint:
    """The shared objects of one listener's connections. `now` is the event loop's time, refreshed each
    second, because deadlines need no better.

    `verbs` has the commands by upper-case name; `names` finds clients' names, None if they are not
    looked up.
    """

    def __init__(
        self,
        listener: Listener,
        flows: Flows,
        acceptor: Acceptor,
        admissions: ConnectionLimits,
        *,
        verbs: Mapping[str, Verb],
        hostname: str,
        tls: ServerTls | None = None,
        names: ReverseNames | None = None,
    ) -> None:
        options = listener.options
        self.options = options
        self.name = listener.name
        self.hostname = hostname
        self.limits = Limits.of(options)
        self.flows = flows
        self.acceptor = acceptor
        self.refusals = acceptor.refusals
        self.observer = acceptor.observer
        self.loop = acceptor.loop
        self.admissions = admissions
        self.tls = tls
        self.names = names
        self.needs_names = any(one.needs_name for one in flows.filters)
        self.meets_strangers = names is not None and (
            listener.exposed or bool(options.use_proxy or options.use_xclient)
        )
        self.proxies = trusted(options.use_proxy)
        self.xclients = trusted(options.use_xclient)
        self.xforwards = trusted(options.use_xforward)
        self.login_failures = RateLimit(
            options.max_auth_failure_rate, options.ipv6_prefix, self.loop.time, self.xclients
        )
        self.turns = Turns(self.loop)
        self.flushes = Flushes(self.loop)
        self.now = self.loop.time()
        self.connections: set[OpenConnection] = set()
        self.ending: Reply | None = None
        """The last reply of connections, once the server stops or has another configuration."""
        self.retired_until: float | None = None
        """When the last connection ends, once the server has another configuration."""

        self.verbs = VerbTable(verbs, options.disabled_commands)
        filters = (f for flow in flows.flows if flow.serves(self.name) for f in flow.filters)
        mechanisms = offered_mechanisms(options, filters, self.name) if "AUTH" in self.verbs else frozenset()
        self.mechanisms = mechanisms
        self.clear_auth = options.clear_text_auth
        starttls = "STARTTLS" in self.verbs and not options.hide_starttls and tls is not None
        self.ehlo = Ehlo(options, hostname, mechanisms=mechanisms, starttls=starttls)
        self._enhanced = not options.hide_enhanced_status_codes
        self.encoded: dict[Reply, bytes] = {DROPPED: b""}
        """The common replies as bytes; `encode` makes the others."""

    @property
    def replaced(self) -> Reply | None:
        """The reply that ends a connection once another configuration decides; None until then."""
        return self.ending if self.retired_until is not None else None

    def opened(self, connection: OpenConnection) -> None:
        """A transport is there."""
        self.connections.add(connection)

    def closed(self, connection: OpenConnection) -> None:
        """The transport is gone."""
        self.connections.discard(connection)

    def tick(self, now: float) -> None:
        """Called each second: end overdue connections."""
        self.now = now
        self.refusals.tick()
        for connection in list(self.connections):
            try:
                connection.expire(now)
            except Exception:
                # The others have deadlines too.
                log.exception("fault at a deadline", extra={"session": connection.session.id})
                connection.abort()

    def drain(self) -> None:
        """Stop: idle connections end now, the others after the mail they are sending."""
        self._end(SHUTTING_DOWN)

    def retire(self, flows: Iterable[str]) -> None:
        """The server has another configuration, with these flows: present mails are finished, no other
        begins, and the last connection ends within `closeTimeout`."""
        self.acceptor.retire(flows)
        if self.retired_until is None:
            self.retired_until = self.now + self.limits.close_timeout
            self._end(RECONFIGURED)

    def _end(self, reply: Reply) -> None:
        self.ending = reply
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        """End every connection now."""
        for connection in list(self.connections):
            connection.abort()

    def encode(self, reply: Reply) -> bytes:
        """A reply as bytes; the common ones are in `encoded` from then on."""
        code, enhanced, text = reply
        line = f"{code} {enhanced} {text}\r\n" if enhanced and self._enhanced else f"{code} {text}\r\n"
        encoded = line.encode("utf-8", "replace")
        # The reply to a mail that is stored has its id, and does not come again.
        if (code != 250 or enhanced != "2.0.0") and len(self.encoded) < 256:
            self.encoded[reply] = encoded
        return encoded
