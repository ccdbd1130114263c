"""AUTH: the SASL exchanges (RFC 4954; PLAIN RFC 4616, LOGIN, CRAM-MD5 RFC 2195, XOAUTH2)."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from functools import partial
from typing import Final

from listener.api.decision import Exact, Reply
from listener.api.session import Credentials
from listener.smtp.connection.machine import Connection
from listener.smtp.replies import (
    ALREADY_AUTHENTICATED,
    AUTH_CANCELLED,
    AUTH_IN_MAIL,
    AUTHENTICATED,
    BAD_AUTH,
    BAD_CREDENTIALS,
    NEEDS_TLS,
    NO_HELO,
    NOT_AUTHORIZED,
    NOT_BASE64,
    SERVER_FIRST,
    TOO_MANY_FAILURES,
    TOO_MANY_GUESSES,
    UNKNOWN_MECHANISM,
)

FAILURE_DELAY: Final = 0.5
"""Seconds before the first 535; each further one on the connection waits this much longer."""

MAX_CREDENTIAL: Final = 1024
"""Most characters of a user name or password; SASLprep'd names and passwords end well below."""

MD5_DIGITS: Final = 32

MAX_TOKEN: Final = 8192
"""Most characters of a bearer token."""


def auth(connection: Connection, argument: str) -> None:
    """AUTH: RFC 4954 section 4. Also allowed after HELO, as many devices send it."""
    words = argument.split()
    endpoint, session = connection.endpoint, connection.session
    if not session.helo:
        connection.error(NO_HELO)
    elif session.user is not None:
        connection.error(ALREADY_AUTHENTICATED)
    elif connection.mail.transaction is not None:
        connection.error(AUTH_IN_MAIL)
    elif endpoint.replaced is not None:
        connection.finish(endpoint.replaced)  # because its users may be others
    elif not words or len(words) > 2:
        connection.error(BAD_AUTH)
    elif session.tls is None and not endpoint.clear_auth:
        connection.error(NEEDS_TLS)
    elif words[0].upper() not in endpoint.mechanisms:
        connection.error(UNKNOWN_MECHANISM)
    elif len(words) == 2 and words[0].upper() == "CRAM-MD5":
        connection.error(SERVER_FIRST, words[0].upper())
    elif endpoint.login_failures.reached(session.ip):
        connection.finish(TOO_MANY_GUESSES, linger=True)
    elif not connection.idle():
        exchange = SaslExchange(connection, words[0].upper(), began=endpoint.loop.time())
        connection.begin_exchange(exchange)
        if len(words) == 2:
            # "=" is an empty initial response (RFC 4954 section 4).
            exchange.answer(b"" if words[1] == "=" else words[1].encode())
        else:
            exchange.challenge()


_TOKEN_REFUSED: Final = base64.b64encode(b'{"status":"400","schemes":"Bearer","scope":""}')
"""The reason why a token was refused, in XOAUTH2's form: a challenge, which the client answers with an
empty response before it gets its 535."""


class SaslExchange:
    """One AUTH command's dialogue, until its reply. `refusal` is that reply if it is settled and only
    the client's empty response is missing. `began` is the event loop's time of the command."""

    __slots__ = ("_began", "_connection", "_nonce", "_refusal", "_username", "mechanism")

    def __init__(
        self, connection: Connection, mechanism: str, refusal: Reply | None = None, *, began: float = 0.0
    ) -> None:
        self.mechanism = mechanism
        self._connection = connection
        self._began = began
        self._refusal = refusal
        self._username: str | None = None
        self._nonce = b""

    def challenge(self) -> None:
        """Ask for the client's first response."""
        text = b""
        if self.mechanism == "LOGIN":
            text = b"Username:"
        elif self.mechanism == "CRAM-MD5":
            # RFC 2195 section 2: each challenge is new.
            host = self._connection.endpoint.hostname
            text = f"<{secrets.token_hex(8)}.{int(time.time())}@{host}>".encode()
            self._nonce = text
        self._ask(base64.b64encode(text))

    def answer(self, line: bytes) -> None:
        """Take one response of the client; settles the exchange or sends the next challenge."""
        connection = self._connection
        if self._refusal is not None:
            connection.end_exchange()
            _refuse(connection, self._refusal)
            return
        if line == b"*":
            self._end(AUTH_CANCELLED)
            return
        try:
            response = base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            self._end(NOT_BASE64)
            return
        if self.mechanism == "LOGIN" and self._username is None:
            self._username = _text(response)
            self._ask(base64.b64encode(b"Password:"))
            return
        connection.end_exchange()
        credentials = self._credentials(response)
        if isinstance(credentials, Reply):
            if credentials is NOT_AUTHORIZED:
                _failed(connection, self.mechanism, self._username, credentials)
            else:
                connection.error(credentials, self.mechanism, self._username)
            return
        decided = partial(_decided, connection, credentials, self._began)
        connection.pending.settle(connection.flows.auth(credentials), decided)

    def _end(self, refusal: Reply) -> None:
        """The exchange ends without credentials."""
        self._connection.end_exchange()
        self._connection.error(refusal, self.mechanism, self._username)

    def _ask(self, challenge: bytes) -> None:
        self._connection.stream.write(b"334 " + challenge + b"\r\n")

    def _credentials(self, response: bytes) -> Credentials | Reply:
        """The client's credentials, or the reply to a response without any."""
        match self.mechanism:
            case "LOGIN":
                assert self._username is not None
                username, secret = self._username, _text(response)
            case "PLAIN":
                # RFC 4616 section 2: [authzid] NUL authcid NUL passwd
                parts = response.split(b"\0")
                if len(parts) != 3:
                    return BAD_CREDENTIALS
                self._username = _text(parts[1])
                if parts[0] not in (b"", parts[1]):
                    return NOT_AUTHORIZED  # because no user may act for another one
                username, secret = self._username, _text(parts[2])
            case "CRAM-MD5":
                username, _, secret = _text(response).rpartition(" ")
                if len(secret) != MD5_DIGITS:
                    return BAD_CREDENTIALS
            case _:
                # XOAUTH2: user=NAME ^A auth=Bearer TOKEN ^A ^A
                fields = dict(part.partition("=")[::2] for part in _text(response).split("\x01") if part)
                kind, _, secret = fields.get("auth", "").partition(" ")
                username = fields.get("user", "")
                if kind.lower() != "bearer" or not secret:
                    return BAD_CREDENTIALS
        longest = MAX_TOKEN if self.mechanism == "XOAUTH2" else MAX_CREDENTIAL
        if not username or len(username) > MAX_CREDENTIAL or len(secret) > longest:
            return BAD_CREDENTIALS
        if not username.isprintable():
            return BAD_CREDENTIALS
        return Credentials(self.mechanism, username, secret, self._nonce)


def _text(response: bytes) -> str:
    """UTF-8 (RFC 4616 section 2), else Latin-1, because old clients send that."""
    try:
        return response.decode("utf-8")
    except UnicodeDecodeError:
        return response.decode("latin-1")


def _decided(connection: Connection, credentials: Credentials, began: float, refusal: Reply | None) -> None:
    endpoint = connection.endpoint
    endpoint.observer.stage("auth", endpoint.loop.time() - began)
    if refusal is None and endpoint.replaced is not None:
        connection.finish(endpoint.replaced)
        return
    if refusal is None:
        connection.reply(AUTHENTICATED)
        return
    if isinstance(refusal, Exact):
        # A scripted answer says nothing about the credentials, so this was no guess.
        connection.error(refusal, credentials.mechanism, credentials.username)
        connection.hang_up_after(refusal)
        return
    if refusal.code < 500:
        connection.reply(refusal)
        connection.hang_up_after(refusal)
        return
    _failed(connection, credentials.mechanism, credentials.username, refusal)


def _failed(connection: Connection, mechanism: str, user: str | None, refusal: Reply) -> None:
    endpoint, session = connection.endpoint, connection.session
    connection.login_failed()
    endpoint.refusals.login(session, mechanism, user)
    endpoint.login_failures.add(session.ip)
    # The delay slows guessing for this client alone; the server serves others meanwhile.
    then = _explain if mechanism == "XOAUTH2" else _refuse
    connection.pending.pause(FAILURE_DELAY * connection.auth_failures, partial(then, connection, refusal))


def _explain(connection: Connection, refusal: Reply) -> None:
    connection.begin_exchange(SaslExchange(connection, "XOAUTH2", refusal))
    connection.stream.write(b"334 " + _TOKEN_REFUSED + b"\r\n")


def _refuse(connection: Connection, refusal: Reply) -> None:
    connection.reply(refusal)
    if connection.auth_failures >= connection.endpoint.limits.max_auth_failures:
        connection.finish(TOO_MANY_FAILURES, linger=True)
