"""An HTTP client for one endpoint, on the standard library.

The whole exchange has one time limit. It connects to the very address that was checked, follows no
redirect, ignores the environment's proxies, asks for no compression and undoes none, and reads a bounded
answer.
"""

from __future__ import annotations

import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import quote, urlsplit

from functions import __version__
from functions.http.addresses import refused

MAX_BODY: Final = 65_536
"""Most bytes of an answer's body that are read."""

MAX_HEAD: Final = 65_536
"""Most bytes of an answer before its body."""

IDLE: Final = 4.0
"""Seconds for which a connection is kept: less than the 5 s after which Node's servers hang up."""

LASTING: Final = 60.0
"""Seconds after which a connection is made anew, because the name may have another address."""

KEPT: Final = 16
"""Most connections that are kept."""

_PIECE: Final = 65_536
_LEAST: Final = 0.5  # seconds for each further address when one used up the time

_Found = list[tuple[Any, ...]]

Body = bytes | Callable[[], BinaryIO]
"""The body of a request, or what opens it from its start."""


class Unanswered(Exception):
    """No answer came; `str()` gives the reason, without secrets. `refused` says that no attempt was made,
    because all addresses of the host are refused."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Answer(NamedTuple):
    """An answer. The names of `headers` are in lower case; `body` is its start, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Posts to one URL. May be used by several threads. `limits` of time are seconds of the steady clock."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        self._host = host if host.isascii() else host.encode("idna").decode()
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        path = quote(parts.path or "/", safe="%/:@!$&'()*+,;=~-._")
        self._target = path + (f"?{quote(parts.query, safe='%/:@!$&()*+,;=~-._?')}" if parts.query else "")
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._kept: list[tuple[float, _Connection]] = []
        self._busy: set[_Connection] = set()
        self._closed = False

    def post(self, headers: Mapping[str, str], body: Body, size: int, seconds: float) -> Answer:
        """Send one request within so many seconds, its answer included. Raises Unanswered."""
        deadline = time.monotonic() + seconds
        kept = self._take()
        if kept is not None:
            with suppress(_Stale):
                return self._exchange(kept, headers, body, size, deadline)
        try:
            return self._exchange(self._open(deadline), headers, body, size, deadline)
        except _Stale as stale:
            raise Unanswered(str(stale)) from None

    def close(self) -> None:
        """Close all connections; a request under way ends with Unanswered."""
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, []
            for connection in self._busy:
                connection.cut()
        for _, each in kept:
            each.close()

    def _take(self) -> _Connection | None:
        now = time.monotonic()
        with self._lock:
            while self._kept:
                since, connection = self._kept.pop()
                if now - since < IDLE and now - connection.made < LASTING:
                    return connection
                connection.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        with self._lock:
            if len(self._kept) < KEPT and not self._closed:
                self._kept.append((time.monotonic(), connection))
                return
        connection.close()

    def _open(self, deadline: float) -> _Connection:
        host = self._host
        sock = connect(host, self._port, deadline)
        try:
            if self._secure:
                sock = self._encrypt(sock, host, deadline)
        except BaseException:
            sock.close()
            raise
        return _Connection(host, self._port, self._secure, sock)

    def _encrypt(self, sock: socket.socket, host: str, deadline: float) -> ssl.SSLSocket:
        with self._lock:
            if self._context is None:
                self._context = ssl.create_default_context()
        secured = self._context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        try:
            secured.settimeout(left(deadline))
            secured.do_handshake()
        except OSError as error:
            secured.close()
            if isinstance(error, ssl.SSLCertVerificationError):
                reason = f"its certificate is not trusted: {error.verify_message}"
            elif isinstance(error, TimeoutError):
                reason = "TLS was not set up in time"
            else:
                reason = f"TLS failed: {_reason(error)}"
            raise Unanswered(reason) from None
        return secured

    def _exchange(
        self, connection: _Connection, headers: Mapping[str, str], body: Body, size: int, deadline: float
    ) -> Answer:
        with self._lock:
            self._busy.add(connection)
        usable = False
        try:
            usable, answer = connection.exchange(self._target, headers, body, size, deadline)
            return answer
        finally:
            with self._lock:
                self._busy.discard(connection)
            if usable:
                self._keep(connection)
            else:
                connection.close()


class _Stale(Exception):
    """The server closed a kept connection before it answered."""


class _Connection:
    """One connection. `made` is the time when it was made."""

    def __init__(self, host: str, port: int, secure: bool, sock: socket.socket) -> None:
        self.made = time.monotonic()
        self._timed = _TimedSocket(sock)
        self._http = http.client.HTTPConnection(host, port)
        if secure:
            self._http.default_port = 443
        self._http.sock = self._timed
        self._fresh = True

    def exchange(
        self, target: str, headers: Mapping[str, str], body: Body, size: int, deadline: float
    ) -> tuple[bool, Answer]:
        """One request. True with an answer if the connection may be used again. Raises Unanswered, and
        _Stale if the server may have closed the connection before the request came."""
        self._timed.begin(deadline)
        fresh, self._fresh = self._fresh, False
        try:
            failed = self._send(target, headers, body, size)
            try:
                response = self._http.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise failed or error from None
            return self._read(response, sent=failed is None)
        except (ConnectionError, http.client.RemoteDisconnected) as error:
            if not fresh and not self._timed.heard:
                raise _Stale("the connection broke") from None
            if isinstance(error, http.client.RemoteDisconnected):
                raise Unanswered("it closed the connection without an answer") from None
            raise Unanswered(f"the connection broke: {_reason(error)}") from None
        except TimeoutError:
            raise Unanswered("it did not answer in time") from None
        except OSError as error:
            raise Unanswered(f"the connection broke: {_reason(error)}") from None
        except http.client.HTTPException as error:
            raise Unanswered(f"this is not an HTTP answer: {type(error).__name__}") from None
        except ValueError:
            raise Unanswered("this is not an HTTP answer") from None

    def _send(self, target: str, headers: Mapping[str, str], body: Body, size: int) -> OSError | None:
        """Send the request; the error of a server that takes no more, because it may have answered."""
        request = self._http
        request.putrequest("POST", target, skip_accept_encoding=True)
        for name, value in {
            "User-Agent": f"smtp-relay/{__version__}",
            "Accept-Encoding": "identity",
            **headers,
            "Content-Length": str(size),
        }.items():
            request.putheader(name, value.encode("utf-8"))
        request.endheaders()
        try:
            if isinstance(body, bytes):
                request.send(body)
                return None
            with body() as stream:
                room = size
                while room and (piece := stream.read(min(_PIECE, room))):
                    request.send(piece)
                    room -= len(piece)
        except TimeoutError:
            raise
        except OSError as error:
            return error
        return None

    def _read(self, response: http.client.HTTPResponse, *, sent: bool) -> tuple[bool, Answer]:
        """The status counts, whatever becomes of the body."""
        headers = {name.lower(): value for name, value in response.getheaders()}
        body = b""
        whole = False
        self._timed.allow(MAX_BODY + _PIECE)
        with suppress(OSError, http.client.HTTPException, ValueError):
            body = response.read(MAX_BODY)
            whole = response.isclosed() or (len(body) < MAX_BODY and not response.read(1))
        usable = whole and sent and not response.will_close
        return usable, Answer(response.status, headers, body)

    def cut(self) -> None:
        """End the exchange from another thread."""
        self._timed.cut()

    def close(self) -> None:
        with suppress(OSError):
            self._http.close()
        self._timed.close()


class _TimedSocket:
    """A socket whose every call ends at one deadline, for `http.client`. It reads no more than allowed."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._deadline = 0.0
        self._room = 0
        self.heard = False

    def begin(self, deadline: float) -> None:
        """For the next exchange."""
        self._deadline, self._room, self.heard = deadline, MAX_HEAD, False

    def allow(self, more: int) -> None:
        """Read so many more bytes."""
        self._room = more

    def sendall(self, data: Any) -> None:
        view = memoryview(data)
        while view:
            self._sock.settimeout(left(self._deadline))
            view = view[self._sock.send(view[:_PIECE]) :]

    def receive(self, buffer: Any) -> int:
        """Read into the buffer. Raises OSError."""
        if self._room <= 0:
            raise OSError(None, "its answer is too long")
        self._sock.settimeout(left(self._deadline))
        count = self._sock.recv_into(memoryview(buffer)[: self._room])
        self._room -= count
        self.heard = self.heard or count > 0
        return count

    def makefile(self, mode: str, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def cut(self) -> None:
        with suppress(OSError):
            # SSLSocket.shutdown() would destroy the TLS session that the other thread uses.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._sock.close()


class _Reader(io.RawIOBase):
    """The bytes of one answer; closing it leaves the socket open."""

    def __init__(self, timed: _TimedSocket) -> None:
        super().__init__()
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._timed.receive(buffer)


def left(deadline: float) -> float:
    """Seconds until the deadline. Raises TimeoutError when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def connect(host: str, port: int, deadline: float) -> socket.socket:
    """A socket connected to the first address of the host that is not refused and answers. Raises
    Unanswered."""
    found = _addresses(host, port, deadline)
    allowed = [each for each in found if refused(str(each[4][0])) is None]
    if not allowed:
        bad = refused(str(found[0][4][0])) if found else None
        raise Unanswered(
            f"its address {bad} is link-local or a metadata service, which no request may reach"
            if bad
            else "its name has no address",
            refused=bad is not None,
        )
    reason = "it has no address"
    for count, (family, kind, protocol, _, address) in zip(range(len(allowed), 0, -1), allowed, strict=True):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            reason = _reason(error)  # the machine may have no IPv6
            continue
        try:
            sock.settimeout(max(_LEAST, (deadline - time.monotonic()) / count))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            reason = "it does not answer" if isinstance(error, TimeoutError) else _reason(error)
            continue
        return sock
    raise Unanswered(f"it cannot be reached: {reason}")


def _addresses(host: str, port: int, deadline: float) -> _Found:
    """getaddrinfo has no time-out, so it runs in a thread that is abandoned when it takes too long."""
    answers: queue.SimpleQueue[_Found | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="http-dns", daemon=True).start()
    try:
        found = answers.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise Unanswered("its name was not resolved in time") from None
    if isinstance(found, Exception):
        reason = _reason(found) if isinstance(found, OSError) else str(found)
        raise Unanswered(f"its name was not resolved: {reason}") from None
    return list(dict.fromkeys(found))


def _reason(error: OSError) -> str:
    own = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return own or error.strerror or type(error).__name__
