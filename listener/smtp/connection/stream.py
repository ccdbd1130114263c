"""The bytes of one connection: incoming bytes that wait, and queued outgoing bytes.

A `Stream` knows no command. Its connection tells it when to read, write and close.
"""

from __future__ import annotations

from typing import Any, Final

MAX_BUFFER: Final = 131_072
"""Most bytes that wait while a command is being executed; beyond them the socket is not read."""

MAX_LINE: Final = 4096
"""Most bytes of a command line with its CRLF. RFC 5321 section 4.5.3.1.4 asks for 512 and extensions
raise it; AUTH lines may be longer (MAX_AUTH_LINE)."""

MAX_AUTH_LINE: Final = 12_288  # RFC 4954 section 4: base64 strings up to 12288 bytes


class LineTooLong(Exception):
    """The waiting line is longer than a command may be."""


class Stream:
    """The input buffer and the output queue of one connection over `transport`, which is asyncio's
    or a TLS layer with the same methods."""

    __slots__ = ("_at", "_buffer", "_out", "_reading_paused", "_shut", "paused", "transport")

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.paused = False
        """True if the client does not read its replies: no more commands are executed."""
        self._buffer = b""
        self._at = 0
        self._out: list[bytes] = []
        self._reading_paused = False
        self._shut = False

    # -- input -------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """The number of incoming bytes that are not handled yet."""
        return len(self._buffer) - self._at

    def append(self, data: bytes) -> None:
        """Keep incoming bytes until they are taken."""
        self._buffer = self._buffer[self._at :] + data if self._buffer else data
        self._at = 0

    def peek(self) -> bytes:
        """All waiting bytes; they stay."""
        return self._buffer[self._at :] if self._at else self._buffer

    def skip(self, count: int) -> None:
        """Drop so many of the waiting bytes."""
        self._at += count

    def take_rest(self) -> bytes:
        """Take all waiting bytes."""
        rest = self._buffer[self._at :]
        self._buffer, self._at = b"", 0
        return rest

    def take_line(self, *, sasl: bool) -> bytes | None:
        """Take one line without its line end; None while it is not complete. AUTH lines, and all
        lines with `sasl`, may have MAX_AUTH_LINE bytes. Raises LineTooLong."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", at)
        if end < 0 or end - at >= MAX_LINE:
            auth = sasl or buffer[at : at + 4].upper() == b"AUTH"
            if (len(buffer) if end < 0 else end) - at >= (MAX_AUTH_LINE if auth else MAX_LINE):
                raise LineTooLong
            if end < 0:
                return None
        line = buffer[at : end - 1] if buffer[end - 1 : end] == b"\r" else buffer[at:end]
        if end + 1 == len(buffer):
            self._buffer, self._at = b"", 0
        else:
            self._at = end + 1
        return line

    def throttle(self) -> None:
        """Read no more from the socket while more than MAX_BUFFER bytes wait."""
        if not self._reading_paused and self.waiting > MAX_BUFFER:
            self._reading_paused = True
            self.transport.pause_reading()

    def unthrottle(self) -> None:
        """Read again after half of that is handled."""
        if self._reading_paused and self.waiting <= MAX_BUFFER // 2:
            self._reading_paused = False
            self.transport.resume_reading()

    # -- output ------------------------------------------------------------------------------

    @property
    def queued(self) -> bool:
        """True if bytes wait to be sent."""
        return bool(self._out)

    def write(self, data: bytes) -> None:
        """Queue bytes; `flush` sends them."""
        self._out.append(data)

    def flush(self) -> None:
        """Send the queued bytes, in one write."""
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            if not self._shut:
                self.transport.write(data)

    def pause(self) -> None:
        """The client does not read its replies."""
        self.paused = True

    def resume(self) -> None:
        """The client reads again."""
        self.paused = False

    def encrypt(self, layer: Any) -> bytes:
        """Continue over a TLS layer. Returns the waiting bytes, which are the handshake's first."""
        self.transport = layer
        return self.take_rest()

    # -- the end -----------------------------------------------------------------------------

    def shut(self, *, linger: bool) -> bool:
        """Send the queued bytes, and nothing after them. With `linger` only the server's side ends, if
        the transport can do that: the connection reads and drops the client's further bytes. Else the
        transport closes. Returns true if the connection waits for the client."""
        self.take_rest()
        self.flush()
        self._shut = True
        transport = self.transport
        if not linger or transport.is_closing() or not transport.can_write_eof():
            transport.close()
            return False
        transport.write_eof()
        if self._reading_paused:
            self._reading_paused = False
            transport.resume_reading()
        return True
