"""The bytes of one connection: commands out, replies in, with bounds on size and time."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from functions.smtp_client import dialogue
from functions.smtp_client.reply import Lost, ServerReply, clean

MAX_LINE: Final = 8_192
"""Most bytes of a reply line; RFC 5321 section 4.5.3.1.5 has 512."""

MAX_LINES: Final = 256

CHALLENGE: Final = 334  # RFC 4954 section 4

_LEAST_SECRET: Final = 4
"""Characters of the shortest secret that is hidden: a shorter one is part of ordinary words."""

_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f]")
_READ: Final = 65_536


class Wire:
    """A connected socket. `patience` is the most seconds of silence; `limit` returns the seconds that
    the run has left. Every failure raises Lost."""

    def __init__(self, sock: socket.socket, patience: float, limit: Callable[[], float]) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._patience = patience
        self.limit = limit
        self._about: dict[str, object] | None = None
        self._secrets: list[str] = []

    def show(self, server: str) -> None:
        """Log the dialogue with this server, if a logger takes it."""
        if dialogue.shows():
            self._about = {"server": server, "port": self._sock.getsockname()[1]}

    def hide(self, *secrets: str) -> None:
        """Take these out of every later reply, because logs and records quote the server's words. A
        challenge stays as it is."""
        self._secrets += [secret for secret in secrets if len(secret) >= _LEAST_SECRET]

    def tell_mail(self, size: int) -> None:
        """A mail of so many bytes was sent, whose bytes no dialogue shows."""
        if self._about is not None:
            dialogue.tell("C", f"({size} bytes of mail)", **self._about)

    @property
    def encrypted(self) -> bool:
        """True if TLS is on."""
        return isinstance(self._sock, ssl.SSLSocket)

    @property
    def own_address(self) -> str:
        """The client's address on this connection."""
        address: str = self._sock.getsockname()[0]
        return address

    def command(self, line: str, *, secret: bool = False) -> ServerReply:
        """Send one command, or the `secret` answer to a challenge, and read its reply."""
        self.commands([line], secret=secret)
        return self.reply()

    def commands(self, lines: Iterable[str], *, secret: bool = False) -> None:
        """Send commands together, each with CRLF. Raises ValueError for a line with control characters,
        because it could be several commands."""
        pieces = []
        for line in lines:
            if self._about is not None:
                shown = dialogue.HIDDEN if secret else dialogue.client_line(line)
                dialogue.tell("C", shown, **self._about)
            if _UNSAFE.search(line):
                raise ValueError("a command holds control characters")
            pieces.append(line.encode() + b"\r\n")
        self.send(b"".join(pieces))

    def send(self, octets: bytes) -> None:
        """Send all bytes."""
        try:
            self._sock.settimeout(self._wait())
            self._sock.sendall(octets)
        except TimeoutError as error:
            raise Lost("it takes no more data") from error
        except OSError as error:
            raise Lost(f"the connection broke: {_reason(error)}") from error

    def reply(self, patience: float | None = None) -> ServerReply:
        """The next reply, within `patience` seconds for all of it."""
        deadline = time.monotonic() + self._wait(patience)
        lines: list[str] = []
        while True:
            line = self._line(deadline)
            match = _LINE.fullmatch(line)
            if match is None or len(lines) >= MAX_LINES:
                words = self._without_secrets(line.decode("utf-8", "replace")).encode()
                raise Lost(f"this is not an SMTP reply: {clean(repr(words[:80]))}")
            code, text = int(match[1]), (match[3] or b"").decode("utf-8", "replace")
            if code != CHALLENGE:
                text = self._without_secrets(text)
            lines.append(text)
            if self._about is not None:
                mark = (match[2] or b" ").decode()
                dialogue.tell("S", dialogue.server_line(f"{code}{mark}{text}"), **self._about)
            if match[2] != b"-":
                return ServerReply(code, tuple(lines))

    def early_reply(self) -> ServerReply | None:
        """A reply that came too early, None if the server waits. Raises Lost when it closed the
        connection."""
        if not self._buffer and not self._receive(0):
            return None
        return self.reply()

    @property
    def unread(self) -> bool:
        """True if the server sent more than was read."""
        return bool(self._buffer)

    def start_tls(self, context: ssl.SSLContext, name: str, patience: float) -> None:
        """Start TLS; the server's certificate must be for `name` if the context asks for one. Raises
        OSError (ssl.SSLError)."""
        self._sock.settimeout(self._wait(patience))
        self._sock = context.wrap_socket(self._sock, server_hostname=name)

    def cut(self) -> None:
        """End the connection from another thread; a thread that waits on it gets Lost."""
        with suppress(OSError):
            # SSLSocket.shutdown() would destroy the TLS session that the other thread uses.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close without a command."""
        with suppress(OSError):
            self._sock.close()

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, dialogue.HIDDEN)
        return text

    def _wait(self, patience: float | None = None) -> float:
        wait = min(self._patience if patience is None else patience, self.limit())
        if wait <= 0:
            raise Lost("the run's time is up")
        return wait

    def _line(self, deadline: float) -> bytes:
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > MAX_LINE:
                raise Lost("it sent a reply line without end")
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise Lost("it did not answer in time")
            if not self._receive(wait):
                raise Lost("it did not answer in time")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def _receive(self, wait: float) -> bool:
        """Put the server's bytes into the buffer; false if nothing came within `wait` seconds. Raises
        Lost if the connection ended."""
        try:
            self._sock.settimeout(wait)
            data = self._sock.recv(_READ)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError as error:
            raise Lost(f"the connection broke: {_reason(error)}") from error
        if not data:
            raise Lost("the server closed the connection")
        self._buffer += data
        return True


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
