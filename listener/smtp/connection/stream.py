"""The bytes of one connection: incoming bytes that wait, and queued outgoing bytes.

A `Stream` knows no command. Its connection tells it when to read, write and close.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from listener.logs import mail_log

log = logging.getLogger("smtp_relay.smtp")

MAX_BUFFER: Final = 131_072
"""Most bytes that wait while a command is being executed; beyond them the socket is not read."""

MAX_QUEUED: Final = 16_384
"""The same while the connection waits for its turn."""

MAX_LINE: Final = 4096
"""Most bytes of a command line with its CRLF. RFC 5321 section 4.5.3.1.4 asks for 512 and extensions
raise it; AUTH lines may be longer (MAX_AUTH_LINE)."""

MAX_AUTH_LINE: Final = 12_288  # RFC 4954 section 4: base64 strings up to 12288 bytes

MAX_SKIPPED: Final = 65_536
"""Bytes of a line that is too long which are read and dropped until it ends."""

MAX_DROPPED: Final = 8_388_608
"""Most bytes that are read and dropped while a client gets time to read the last reply."""

MAX_DUE: Final = 64
"""Most streams whose queued bytes wait for the end of a turn of the loop, about two milliseconds of work."""


class LineTooLong(Exception):
    """A line is longer than a command may be. `ended` says whether it was dropped up to its end, so that
    the next line is a command; else it goes on after MAX_SKIPPED bytes."""

    def __init__(self, *, ended: bool) -> None:
        super().__init__(ended)
        self.ended = ended


def _drop(data: bytes) -> None:
    """Bytes after the end are not sent."""


def _write_log() -> None:
    """Write the log lines of mails. Replies leave even if that fails."""
    try:
        mail_log.flush()
    except Exception:
        log.exception("fault while logging mails")


class Flushes:
    """Sends the queued bytes of an endpoint's streams when the present turn of the event loop ends.

    A send to a process that waits wakes it, which costs as much as the send. Where one process has many
    connections, the first of the sends wakes it, and it is awake at the others. The log lines of mails are
    written first, so that a client which has its answer finds its line.
    """

    __slots__ = ("_loop", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.due: list[Stream] = []
        """The streams with queued bytes, some more than once. Each adds itself."""

    def begin(self) -> None:
        """The next stream is the first one of a turn, or MAX_DUE wait already."""
        if self.due:
            self._send()
        self._loop.call_soon(self._send)

    def _send(self) -> None:
        due = self.due[:]
        self.due.clear()
        _write_log()
        for stream in due:
            # As `send`, without a call for each.
            out = stream.queued
            if not out:
                continue
            data = b"".join(out)
            out.clear()
            try:
                stream.transport.write(data)
            except Exception:
                # The others have replies too.
                log.exception("fault while sending")
                stream.transport.abort()


class Stream:
    """The input buffer and the output queue of one connection over `transport`, which is asyncio's
    or a TLS layer with the same methods."""

    __slots__ = (
        "_at",
        "_buffer",
        "_dropped",
        "_due",
        "_flushes",
        "_reading_paused",
        "_skipped",
        "paused",
        "queued",
        "transport",
        "waiting",
        "write",
    )

    def __init__(self, transport: Any, flushes: Flushes) -> None:
        self.transport = transport
        self._flushes = flushes
        self._due = flushes.due
        self.paused = False
        """True if the client does not read its replies: no more commands are executed."""
        self.waiting = 0
        """The number of incoming bytes that are not handled yet."""
        self._buffer = b""
        self._at = 0
        self._skipped = 0
        self._dropped = 0
        self.queued: list[bytes] = []
        """The bytes that `flush` or `send` sends."""
        self.write: Callable[[bytes], None] = self.queued.append
        """Queues bytes. (The list's own method, because every reply passes here.)"""
        self._reading_paused = False

    # -- input -------------------------------------------------------------------------------

    def append(self, data: bytes) -> None:
        """Keep incoming bytes until they are taken."""
        self._buffer = self._buffer[self._at :] + data if self._buffer else data
        self._at = 0
        self.waiting = len(self._buffer)

    def peek(self) -> bytes:
        """All waiting bytes; they stay."""
        return self._buffer[self._at :] if self._at else self._buffer

    def skip(self, count: int) -> None:
        """Drop so many of the waiting bytes."""
        self._at += count
        self.waiting -= count

    def take_rest(self) -> bytes:
        """Take all waiting bytes."""
        rest = self._buffer[self._at :]
        self._buffer, self._at, self.waiting = b"", 0, 0
        return rest

    def take_line(self, *, sasl: bool) -> bytes | None:
        """Take one line without its line end; None while it is not complete. AUTH lines, and all
        lines with `sasl`, may have MAX_AUTH_LINE bytes; one that is longer is dropped. Raises
        LineTooLong once it ends, or does not within MAX_SKIPPED bytes."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", at)
        if end < 0 or end - at >= MAX_LINE or self._skipped:
            size = (len(buffer) if end < 0 else end) - at
            auth = sasl or buffer[at : at + 4].upper() == b"AUTH"
            if self._skipped or size >= (MAX_AUTH_LINE if auth else MAX_LINE):
                self._skip_line(size, end)
                return None
            if end < 0:
                return None
        line = buffer[at : end - 1] if buffer[end - 1 : end] == b"\r" else buffer[at:end]
        if end + 1 == len(buffer):
            self._buffer, self._at, self.waiting = b"", 0, 0
        else:
            self._at = end + 1
            self.waiting = len(buffer) - end - 1
        return line

    def _skip_line(self, size: int, end: int) -> None:
        """Drop `size` bytes of a line that is too long; `end` is where its line feed is, or -1. Raises
        LineTooLong."""
        self._skipped += size
        if self._skipped > MAX_SKIPPED:
            raise LineTooLong(ended=False)
        if end >= 0:
            self._skipped, self._at = 0, end + 1
            self.waiting = len(self._buffer) - self._at
            raise LineTooLong(ended=True)
        # One byte stays in the buffer, so that the next bytes are not taken for a line of their own.
        self._skipped -= 1
        self._buffer, self._at, self.waiting = self._buffer[-1:], 0, 1

    def drop(self, count: int) -> None:
        """So many bytes came in after the end. The connection is gone after MAX_DROPPED of them."""
        self._dropped += count
        if self._dropped > MAX_DROPPED:
            self.transport.abort()

    def throttle(self, limit: int = MAX_BUFFER) -> None:
        """Read no more from the socket while more than `limit` bytes wait."""
        if not self._reading_paused and self.waiting > limit:
            self._reading_paused = True
            self.transport.pause_reading()

    def unthrottle(self) -> None:
        """Read again after half of that is handled."""
        if self._reading_paused and self.waiting <= MAX_BUFFER // 2:
            self._reading_paused = False
            self.transport.resume_reading()

    # -- output ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send the queued bytes at the end of this turn of the loop."""
        if self.queued:
            due = self._due
            if not due or len(due) >= MAX_DUE:
                self._flushes.begin()
            due.append(self)

    def send(self) -> None:
        """Send the queued bytes now, in one write."""
        if self.queued:
            _write_log()
            data = b"".join(self.queued)
            self.queued.clear()
            self.transport.write(data)

    def pause(self) -> None:
        """The client does not read its replies."""
        self.paused = True

    def resume(self) -> None:
        """The client reads again."""
        self.paused = False

    def encrypt(self, layer: Any) -> bytes:
        """Send the queued bytes, and continue over a TLS layer. Returns the waiting bytes, which are the
        handshake's first."""
        self.send()
        self.transport = layer
        return self.take_rest()

    # -- the end -----------------------------------------------------------------------------

    def lost(self) -> None:
        """The transport is gone, and with it the queued bytes."""
        self.queued.clear()
        self.write = _drop

    def shut(self, *, linger: bool) -> bool:
        """Send the queued bytes, and nothing after them. With `linger` only the server's side ends, if
        the transport can do that: the connection reads and drops the client's further bytes. Else the
        transport closes. Returns true if the connection waits for the client."""
        self.take_rest()
        self.send()
        self.write = _drop
        transport = self.transport
        if not linger or transport.is_closing() or not transport.can_write_eof():
            transport.close()
            return False
        transport.write_eof()
        if self._reading_paused:
            self._reading_paused = False
            transport.resume_reading()
        return True
