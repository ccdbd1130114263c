"""AUTH: the SASL exchanges (RFC 4954; PLAIN RFC 4616, LOGIN, CRAM-MD5 RFC 2195, XOAUTH2)."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from listener.api.decision import Reply
from listener.api.session import Credentials
from listener.smtp import stream as link

if TYPE_CHECKING:
    from listener.smtp.connection import Connection

SUCCESS: Final = Reply(235, "2.7.0", "Authentication successful")
FAILED: Final = Reply(535, "5.7.8", "Authentication failed")
CANCELLED: Final = Reply(501, "5.7.0", "Authentication cancelled")
NOT_BASE64: Final = Reply(501, "5.5.2", "Not valid base64")
MALFORMED: Final = Reply(501, "5.5.2", "Malformed credentials")
TOO_MANY: Final = Reply(421, "4.7.0", "Too many failed authentications, closing the connection")
NEEDS_TLS: Final = Reply(538, "5.7.11", "Encryption required for authentication")
UNKNOWN: Final = Reply(504, "5.5.4", "Unrecognized authentication mechanism")
SERVER_FIRST: Final = Reply(501, "5.7.0", "This mechanism takes no initial response")  # RFC 4954 section 4
ALREADY: Final = Reply(503, "5.5.1", "Already authenticated")
IN_MAIL: Final = Reply(503, "5.5.1", "AUTH is not permitted during a mail transaction")
NO_HELO: Final = Reply(503, "5.5.1", "Send HELO or EHLO first")
SYNTAX: Final = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")

FAILURE_DELAY: Final = 0.5
"""Seconds before the first 535; each further one on the connection waits this much longer."""

MAX_CREDENTIAL: Final = 1024
"""Characters of a user name or password; SASLprep'd names and passwords end well below."""

MD5_DIGITS: Final = 32

MAX_TOKEN: Final = 8192
"""Characters of a bearer token."""


def auth(connection: Connection, argument: str) -> None:
    """AUTH: RFC 4954 section 4. Also allowed after HELO, as many devices send it."""
    words = argument.split()
    port = connection.port
    if not connection.session.helo:
        connection.error(NO_HELO)
    elif connection.session.user is not None:
        connection.error(ALREADY)
    elif connection.transaction is not None:
        connection.error(IN_MAIL)
    elif not words or len(words) > 2:
        connection.error(SYNTAX)
    elif not connection.tls_active and not port.clear_auth:
        connection.error(NEEDS_TLS)
    elif words[0].upper() not in port.mechanisms:
        connection.error(UNKNOWN)
    elif len(words) == 2 and words[0].upper() == "CRAM-MD5":
        connection.error(SERVER_FIRST)
    elif not connection.idle():
        exchange = Exchange(words[0].upper(), began=port.loop.time())
        connection.exchange = exchange
        connection.state = link.SASL
        if len(words) == 2:
            # "=" is an empty initial response (RFC 4954 section 4).
            exchange.answer(connection, b"" if words[1] == "=" else words[1].encode())
        else:
            exchange.challenge(connection)


_TOKEN_REFUSED: Final = base64.b64encode(b'{"status":"400","schemes":"Bearer","scope":""}')
"""Why a token was refused, as XOAUTH2 tells it: in a challenge, which the client answers with an
empty response before it gets its 535."""


class Exchange:
    """One AUTH command's dialogue, until its reply. `refusal` is that reply when it is settled and
    only the client's empty response is missing. `began` is the event loop's time of the command."""

    __slots__ = ("_began", "_nonce", "_refusal", "_username", "mechanism")

    def __init__(self, mechanism: str, refusal: Reply | None = None, *, began: float = 0.0) -> None:
        self.mechanism = mechanism
        self._began = began
        self._refusal = refusal
        self._username: str | None = None
        self._nonce = b""

    def challenge(self, connection: Connection) -> None:
        """Ask for the client's first response."""
        text = b""
        if self.mechanism == "LOGIN":
            text = b"Username:"
        elif self.mechanism == "CRAM-MD5":
            # RFC 2195 section 2: never the same twice.
            host = connection.port.hostname
            text = f"<{secrets.token_hex(8)}.{int(time.time())}@{host}>".encode()
            self._nonce = text
        connection.write(b"334 " + base64.b64encode(text) + b"\r\n")

    def answer(self, connection: Connection, line: bytes) -> None:
        """Take one response of the client; settles the exchange or asks on."""
        if self._refusal is not None:
            self._over(connection)
            _refuse(connection, self._refusal)
            return
        if line == b"*":
            self._over(connection)
            connection.error(CANCELLED)
            return
        try:
            response = base64.b64decode(line, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            self._over(connection)
            connection.error(NOT_BASE64)
            return
        if self.mechanism == "LOGIN" and self._username is None:
            self._username = response
            connection.write(b"334 " + base64.b64encode(b"Password:") + b"\r\n")
            return
        self._over(connection)
        credentials = self._credentials(response)
        if credentials is None:
            connection.error(MALFORMED)
            return
        decided = partial(_decided, connection, credentials, self._began)
        connection.settle(connection.flows.auth(credentials), decided)

    def _credentials(self, response: str) -> Credentials | None:
        match self.mechanism:
            case "LOGIN":
                assert self._username is not None
                username, secret = self._username, response
            case "PLAIN":
                # RFC 4616 section 2: [authzid] NUL authcid NUL passwd
                parts = response.split("\0")
                if len(parts) != 3 or parts[0] not in ("", parts[1]):
                    return None
                username, secret = parts[1], parts[2]
            case "CRAM-MD5":
                username, _, secret = response.rpartition(" ")
                if len(secret) != MD5_DIGITS:
                    return None
            case _:
                # XOAUTH2: user=NAME ^A auth=Bearer TOKEN ^A ^A
                fields = dict(part.partition("=")[::2] for part in response.split("\x01") if part)
                kind, _, secret = fields.get("auth", "").partition(" ")
                username = fields.get("user", "")
                if kind.lower() != "bearer" or not secret:
                    return None
        longest = MAX_TOKEN if self.mechanism == "XOAUTH2" else MAX_CREDENTIAL
        if not username or len(username) > MAX_CREDENTIAL or len(secret) > longest:
            return None
        if not username.isprintable():
            return None
        return Credentials(self.mechanism, username, secret, self._nonce)

    def _over(self, connection: Connection) -> None:
        connection.exchange = None
        connection.state = link.COMMAND


def _decided(connection: Connection, credentials: Credentials, began: float, refusal: Reply | None) -> None:
    port = connection.port
    port.observer.stage("auth", port.loop.time() - began)
    if refusal is None:
        connection.session.user = credentials.username
        connection.reply(SUCCESS)
        return
    if refusal.code < 500:
        connection.reply(refusal)
        connection.hang_up_after(refusal)
        return
    connection.auth_failures += 1
    port.auth_failed(connection.session)
    connection.state = link.WAIT
    # Guessing is slowed for this client alone; the server goes on meanwhile.
    then = _explain if credentials.mechanism == "XOAUTH2" else _wait_no_more
    port.loop.call_later(FAILURE_DELAY * connection.auth_failures, then, connection, refusal)


def _explain(connection: Connection, refusal: Reply) -> None:
    if connection.state == link.CLOSED:
        return
    connection.exchange = Exchange("XOAUTH2", refusal)
    connection.state = link.SASL
    connection.write(b"334 " + _TOKEN_REFUSED + b"\r\n")
    connection.go_on()


def _wait_no_more(connection: Connection, refusal: Reply) -> None:
    if connection.state == link.CLOSED:
        return
    connection.state = link.COMMAND
    _refuse(connection, refusal)
    connection.go_on()


def _refuse(connection: Connection, refusal: Reply) -> None:
    connection.reply(refusal)
    if connection.auth_failures >= connection.port.max_auth_failures:
        connection.finish(TOO_MANY, linger=True)
