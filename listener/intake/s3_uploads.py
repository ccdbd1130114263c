"""Small objects to S3 over connections of the event loop: a PUT without threads, tasks or copies.

It is the short way beside obstore's, for what is usual: nothing here retries, follows a redirect or asks
a proxy. A PUT that fails is tried again by obstore, which can do no harm because both create only.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from listener.intake.s3_credentials import CredentialSource
from listener.intake.s3_signature import S3Signature

Done = Callable[[int, str], None]
"""Called once with the status of the answer, 0 without one, and the reason in words if it is no success."""

_IDLE: Final = 15.0  # seconds for which a connection is kept: less than the 20 of S3
_REST: Final = 10.0  # seconds without an attempt after a connection could not be made
_MOST: Final = 65_536  # bytes of an answer

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([^\r\n]*)", re.IGNORECASE)
_ENDS: Final = re.compile(rb"\r\n(?:connection:[^\r\n]*close|transfer-encoding:)", re.IGNORECASE)
_ETAG: Final = re.compile(rb"\r\netag:", re.IGNORECASE)
_CODE: Final = re.compile(rb"<Code>(\w{1,60})</Code>")


class BucketAddress(NamedTuple):
    """A bucket's address. `path` begins each object's, with `/` at both ends; `secure` says TLS. The times
    are seconds: for a connection, and for an answer."""

    host: str
    port: int
    secure: bool
    path: str
    connect_timeout: float
    timeout: float


class S3Uploads:
    """PUTs to one bucket. All methods are called in the event loop."""

    def __init__(self, address: BucketAddress, signature: S3Signature, source: CredentialSource) -> None:
        self.address = address
        self._signature = signature
        self._source = source
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._pending: set[Done] = set()
        self._drained: asyncio.Future[None] | None = None
        self._rests_until = 0.0
        self._context: ssl.SSLContext | None = None

    def put(self, key: str, body: bytes, done: Done) -> bool:
        """Create one object, and call `done` once with the outcome. Returns False if it cannot be tried now.
        `key` needs no percent sign."""
        credentials = self._source.current()
        if credentials is None or time.monotonic() < self._rests_until:
            return False
        request = self._signature.head(self.address.path + key, body, credentials) + body
        self._pending.add(done)
        while self._idle:
            # The last used one, so that those above the need end.
            if self._idle.pop().send(request, done):
                break
        else:
            self.connect(request, done)
        return True

    def tick(self) -> None:
        """Close connections that are no longer needed; the server calls this each second."""
        until = time.monotonic() - _IDLE
        while self._idle and self._idle[0].idle_since < until:
            self._idle.popleft().close()

    async def drain(self, timeout: float) -> None:
        """Wait until no PUT is under way, for at most this number of seconds."""
        if self._pending:
            self._drained = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._drained], timeout=timeout)

    def close(self) -> None:
        """Give up the PUTs that are under way."""
        self._source.close()
        for task in self._opening:
            task.cancel()
        for connection in tuple(self._open):
            connection.close()
        for done in tuple(self._pending):
            self.finish(done, 0, "stopped")

    def connect(self, request: bytes, done: Done) -> None:
        """Send over a new connection."""
        if done not in self._pending:
            return  # closing gave it up
        task = asyncio.get_running_loop().create_task(self._connect(request, done))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, request: bytes, done: Done) -> None:
        address = self.address
        try:
            async with asyncio.timeout(address.connect_timeout):
                if address.secure and self._context is None:
                    # It reads the system's certificates.
                    self._context = await asyncio.to_thread(ssl.create_default_context)
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self, address.timeout), address.host, address.port, ssl=self._context
                )
        except (OSError, ValueError) as error:
            self._rests_until = time.monotonic() + _REST
            self.finish(done, 0, f"no connection: {error or type(error).__name__}")
        else:
            if not connection.send(request, done):
                self.finish(done, 0, "the connection ended")

    def opened(self, connection: _Connection) -> None:
        self._open.add(connection)

    def free(self, connection: _Connection) -> None:
        self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def finish(self, done: Done, status: int, reason: str) -> None:
        if done not in self._pending:
            return
        self._pending.discard(done)
        if status in (400, 401, 403):
            self._source.refused()
        done(status, reason)
        if self._drained is not None and not self._pending and not self._drained.done():
            self._drained.set_result(None)


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection (RFC 9112), which carries one request at a time."""

    def __init__(self, uploads: S3Uploads, timeout: float) -> None:
        self._uploads = uploads
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._done: Done | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = b""
        self._transport: asyncio.Transport
        self._request: bytes | None = None
        self._used = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio types it for every kind
        self._uploads.opened(self)

    def send(self, request: bytes, done: Done) -> bool:
        """Returns False if the connection has ended."""
        if self._transport.is_closing():
            return False
        self._done = done
        self._request = request if self._used else None
        self._used = True
        self._timer = self._loop.call_later(self._timeout, self._late)
        self._transport.write(request)
        return True

    def data_received(self, data: bytes) -> None:
        if self._done is None:
            self.close()  # the server answers what was not asked
            return
        if self._received:
            data = self._received + data
        try:
            answer = _read(data)
        except ValueError as error:
            self.close()
            self._finish(0, str(error))
            return
        if answer is None:
            self._received = data
            return
        status, reason, stays = answer
        self._received = b""
        if stays and not self._transport.is_closing() and not self._transport.get_write_buffer_size():
            self.idle_since = self._loop.time()
            self._uploads.free(self)
        else:
            self.close()
        self._finish(status, reason)

    def connection_lost(self, error: Exception | None) -> None:
        self._uploads.lost(self)
        if self._request is not None and not self._received and self._done is not None:
            # The server may end a connection at the moment of its next use.
            request, done, self._done = self._request, self._done, None
            self._finish(0, "")
            self._uploads.connect(request, done)
        else:
            self._finish(0, f"the connection ended: {error or 'closed'}")

    def close(self) -> None:
        self._uploads.lost(self)
        self._transport.abort()

    def _late(self) -> None:
        self.close()
        self._finish(0, f"no answer within {self._timeout:g} s")

    def _finish(self, status: int, reason: str) -> None:
        done, self._done, self._request = self._done, None, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if done is not None:
            self._uploads.finish(done, status, reason)


class _Answer(NamedTuple):
    status: int
    reason: str
    stays: bool
    """True if the connection can carry another request."""


def _read(data: bytes) -> _Answer | None:
    """The answer, None if some of it has yet to come. Raises ValueError."""
    start = 0
    while True:
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            break
        if data[start : start + 7] != b"HTTP/1." or not data[start + 9 : start + 12].isdigit():
            raise ValueError("the answer is not HTTP")
        status = int(data[start + 9 : start + 12])
        if status >= 200:
            head, body = data[start : end + 2], data[end + 4 :]
            length = _length(head)
            if len(body) < length <= _MOST:
                break
            stays = len(body) == length and head[7:8] == b"1" and _ENDS.search(head) is None
            if status < 300 and _ETAG.search(head) is None:
                return _Answer(0, f"status {status} without an ETag", stays=False)  # no S3
            return _Answer(status, "" if status < 300 else _reason(status, body), stays)
        start = end + 4  # RFC 9110 section 15.2: another answer follows
    if len(data) > 2 * _MOST:
        raise ValueError("the answer has no end")
    return None


def _length(head: bytes) -> int:
    """The number of bytes of the body, -1 if the head does not say just that (RFC 9112 section 6.3)."""
    found = _LENGTH.findall(head)
    size: bytes = found[0].rstrip() if len(found) == 1 else b""
    return int(size) if size.isdigit() and len(size) < 10 else -1


def _reason(status: int, body: bytes) -> str:
    code = _CODE.search(body)
    return f"status {status}" if code is None else f"status {status} {code[1].decode()}"
