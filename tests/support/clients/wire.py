"""A bare SMTP client on a socket: sends exactly the given bytes, in the given pieces."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

from tests.support.net import HOST

_PATIENCE: Final = 15.0  # seconds for any one reply

_GAP: Final = 0.003  # seconds between pieces, so that the server reads them apart


class Reply(NamedTuple):
    """One reply: its code and its lines without code and separator."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines as one string."""
        return "\n".join(self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Closed(ConnectionError):
    """The server closed the connection where a reply was expected."""


class Wire:
    """One connection. The greeting is not read unless `greet` is called."""

    def __init__(self, port: int, *, host: str = HOST, patience: float = _PATIENCE) -> None:
        self.socket = socket.create_connection((host, port), timeout=patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, octets: bytes, *, chunks: int | Sequence[int] | None = None) -> None:
        """Send the bytes: whole, in pieces of `chunks` bytes, or cut at the given offsets."""
        if chunks is None:
            self.socket.sendall(octets)
            return
        cuts: Iterable[int] = range(chunks, len(octets), chunks) if isinstance(chunks, int) else chunks
        start = 0
        for cut in [*cuts, len(octets)]:
            if cut > start:
                self.socket.sendall(octets[start:cut])
                start = cut
                if cut < len(octets):
                    time.sleep(_GAP)

    def line(self) -> str:
        """The next line of the server, CRLF removed. Raises Closed, TimeoutError, or AssertionError
        for a line that does not end in CRLF."""
        while (end := self._buffer.find(b"\n")) < 0:
            if not self._fill():
                raise Closed("the server closed the connection")
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        assert line.endswith(b"\r\n"), f"reply line without CRLF: {line!r}"
        return line[:-2].decode("utf-8")

    def reply(self) -> Reply:
        """The next reply, all its lines."""
        lines = []
        while True:
            line = self.line()
            assert line[:3].isdigit(), f"not a reply line: {line!r}"
            lines.append(line[4:])
            if line[3:4] != "-":
                return Reply(int(line[:3]), tuple(lines))

    def command(self, line: str | bytes) -> Reply:
        """Send one line, CRLF added, and read its reply."""
        octets = line.encode() if isinstance(line, str) else line
        self.socket.sendall(octets + b"\r\n")
        return self.reply()

    def greet(self, name: str = "client.example", *, verb: str = "EHLO") -> Reply:
        """Read the banner and say hello; the reply to hello."""
        banner = self.reply()
        assert banner.code == 220, banner
        return self.command(f"{verb} {name}")

    def begin(self, sender: str = "a@client.example", *recipients: str) -> None:
        """Everything up to the 354: hello, MAIL, RCPT, DATA."""
        self.greet()
        self.envelope(sender, *recipients)

    def envelope(self, sender: str = "a@client.example", *recipients: str) -> None:
        """MAIL, RCPT and DATA, up to the 354."""
        assert (reply := self.command(f"MAIL FROM:<{sender}>")).code == 250, reply
        for recipient in recipients or ("b@server.example",):
            assert (reply := self.command(f"RCPT TO:<{recipient}>")).code == 250, reply
        assert (reply := self.command("DATA")).code == 354, reply

    def rest(self, *, seconds: float = _PATIENCE) -> bytes:
        """All bytes until the server closes. Raises TimeoutError if it does not."""
        self.socket.settimeout(seconds)
        while self._fill():
            pass
        everything = bytes(self._buffer)
        self._buffer.clear()
        return everything

    def silent(self, *, seconds: float = 0.05) -> bool:
        """True if nothing comes for a while."""
        if self._buffer:
            return False
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            return not self._fill()
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(before)

    def _fill(self) -> bool:
        try:
            octets = self.socket.recv(65536)
        except ConnectionResetError:
            octets = b""
        self._buffer += octets
        return bool(octets)


def stuffed(mail: bytes) -> bytes:
    """The mail as DATA sends it (RFC 5321 section 4.5.2), the final dot included."""
    if mail.startswith(b"."):
        mail = b"." + mail
    mail = mail.replace(b"\r\n.", b"\r\n..")
    if mail and not mail.endswith(b"\r\n"):
        mail += b"\r\n"
    return mail + b".\r\n"


def submit(port: int, mail: bytes, sender: str = "a@client.example", *recipients: str) -> Reply:
    """Send one mail over a connection of its own; the reply after the final dot."""
    with Wire(port) as wire:
        wire.begin(sender, *recipients)
        wire.send(stuffed(mail))
        return wire.reply()
