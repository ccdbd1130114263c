"""TLS between a transport and a connection, without the event loop's own.

The loop's `start_tls` cannot use bytes that came in already (a PROXY header and the first handshake
record often share a packet), and costs a task for each handshake and a quarter of a megabyte of
buffer for each connection. This class is a protocol to the transport below and a transport to the
connection above; both sides call it as asyncio does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any, Final, Protocol

CHUNK: Final = 32_768
"""Most bytes of ciphertext that OpenSSL is given at a time. Its buffers never shrink again, so each
idle connection would keep the largest chunk that it ever got."""

RECORD: Final = 16_384
"""Most bytes of plain text in one record (RFC 8446 section 5.1): the most that one read returns."""


MAX_UNSENT: Final = 262_144
"""Most bytes of TLS's own messages that wait for a client that requests them and never reads."""


_FIRST: Final = 16


class Above(Protocol):
    """The protocol on top, called as asyncio calls one."""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, error: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class HandshakeEnd(Protocol):
    """The receiver of the handshake's result."""

    def ready(self, tls: ssl.SSLObject) -> None:
        """The handshake is done."""

    def failed(self, reason: str) -> None:
        """The handshake failed, for a reason in a few words; the transport is being closed."""


class TlsLayer(asyncio.Protocol):
    """Server side of one TLS connection over `below`, which is an asyncio transport whose protocol
    becomes this object. `end` is told how the handshake ends."""

    __slots__ = ("_above", "_below", "_closed", "_end", "_incoming", "_outgoing", "_ready", "_tls", "first")

    def __init__(self, above: Above, below: Any, context: ssl.SSLContext, end: HandshakeEnd) -> None:
        self._above = above
        self._end = end
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.first = b""
        """The first bytes that the client sent, as many as tell a PROXY header."""
        self._ready = False
        self._closed = False
        below.set_protocol(self)

    # -- called by the transport below ---------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if not self._ready and not self._closed:
            self.first = (self.first + data[:_FIRST])[:_FIRST]
        if self._closed:
            # The client will not read it; the connection above counts it until its time limit.
            self._above.data_received(data)
        elif len(data) <= CHUNK:
            self._incoming.write(data)
            self._pump()
        else:
            view = memoryview(data)
            for start in range(0, len(data), CHUNK):
                self._incoming.write(view[start : start + CHUNK])
                self._pump()

    def eof_received(self) -> bool | None:
        if not self._ready:
            return False
        return self._above.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._above.connection_lost(exc)

    def pause_writing(self) -> None:
        self._above.pause_writing()

    def resume_writing(self) -> None:
        self._above.resume_writing()

    def _pump(self) -> None:
        if self._closed:
            self._incoming.read()
            return
        try:
            if not self._ready and not self._shake_hands():
                return
            self._read()
        except ssl.SSLError:
            # Broken or forged records: nothing after them can be understood.
            self._flush()
            self._closed = True
            self._below.close()

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._flush()
            self._closed = True
            self._end.failed(getattr(error, "reason", None) or "unreadable")
            self._below.close()
            return False
        self._ready = True
        self._flush()
        self._end.ready(self._tls)
        return not self._closed

    def _read(self) -> None:
        pieces: list[bytes] = []
        ended = False
        try:
            while piece := self._tls.read(RECORD):
                pieces.append(piece)
            ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        # Reading may have produced bytes to send: a key update, an alert.
        if self._outgoing.pending:
            self._flush()
            if self._below.get_write_buffer_size() > MAX_UNSENT:
                self.abort()
                return
        if pieces:
            self._above.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended and not self._closed and not self._above.eof_received():
            self.close()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())

    # -- called by the connection above --------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes; before the handshake is done they are dropped, because the client could not read
        them."""
        if not self._ready or self._closed:
            return
        try:
            sent = self._tls.write(data)
            while sent < len(data):
                sent += self._tls.write(memoryview(data)[sent:])
        except ssl.SSLError:
            self._closed = True
            self._below.abort()
            return
        self._below.write(self._outgoing.read())

    def write_eof(self) -> None:
        """Announce the end (close_notify), and go on dropping incoming bytes."""
        self._goodbye()
        self._below.write_eof()

    def can_write_eof(self) -> bool:
        """True if `write_eof` may be called."""
        return bool(self._below.can_write_eof())

    def close(self) -> None:
        """Send the queued bytes and close_notify, then close. The client's own close_notify is not
        awaited (RFC 8446 section 6.1)."""
        self._goodbye()
        self._below.close()

    def _goodbye(self) -> None:
        if self._ready and not self._closed:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        self._closed = True

    def abort(self) -> None:
        """Close at once; queued bytes are lost."""
        self._closed = True
        self._below.abort()

    def is_closing(self) -> bool:
        """True if the connection is going away."""
        return self._closed or bool(self._below.is_closing())

    def pause_reading(self) -> None:
        """Stop reading bytes."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Read bytes again."""
        self._below.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """asyncio's; `ssl_object` is the TLS connection."""
        return self._tls if name == "ssl_object" else self._below.get_extra_info(name, default)
