"""A receiver of webhooks with faults: a real HTTP server on loopback."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

Reaction = Callable[["Handler"], None]
"""What the server does about one request after it has read it."""


@dataclass(frozen=True)
class Received:
    """One request. The names of `headers` are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """The server's side. `react` is called with each request; `received` are all of them."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    react: Reaction = field(default_factory=lambda: answer())
    connections: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ids(self) -> list[str]:
        return [one.id for one in self.received]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def setup(self) -> None:
        super().setup()
        self.receiver.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.receiver.received.append(Received(self.command, self.path, headers, body))
        self.receiver.react(self)

    do_PUT = do_GET = do_POST

    def say(self, octets: bytes) -> None:
        """Write bytes; the client may be gone."""
        with suppress(OSError):
            self.wfile.write(octets)
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def handle(self) -> None:
        with suppress(OSError, ValueError):
            super().handle()


def answer(status: int = 200, body: bytes = b"ok", **headers: str) -> Reaction:
    """An ordinary answer; `retry_after` becomes the header Retry-After."""

    def react(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.say(body)

    return react


def in_turn(*reactions: Reaction) -> Reaction:
    """These, one for each request; the last for all further ones."""
    left = list(reactions)
    lock = threading.Lock()

    def react(handler: Handler) -> None:
        with lock:
            each = left.pop(0) if len(left) > 1 else left[0]
        each(handler)

    return react


def hang(handler: Handler) -> None:
    """No answer until the test ends."""
    handler.receiver.released.wait(30)
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """The connection breaks."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    with suppress(OSError):
        socket.socket.shutdown(handler.connection, socket.SHUT_RD)
        handler.connection.close()


def hang_up(handler: Handler) -> None:
    """The connection ends without an answer."""
    handler.close_connection = True


def drip(handler: Handler) -> None:
    """A header without end, a byte at a time."""
    handler.say(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.receiver.released.wait(0.05):
        try:
            handler.wfile.write(b"a")
        except OSError:
            return


def drip_body(handler: Handler) -> None:
    """A body without end, a byte at a time, after a status."""
    handler.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not handler.receiver.released.wait(0.05):
        try:
            handler.wfile.write(b"a")
        except OSError:
            return


def lie(handler: Handler) -> None:
    """Fewer bytes than it says."""
    handler.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
    handler.close_connection = True


def huge(handler: Handler) -> None:
    """100 MB of body."""
    handler.say(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
    piece = b"x" * 1_048_576
    with suppress(OSError):
        for _ in range(100):
            handler.wfile.write(piece)
    handler.close_connection = True


def huge_head(handler: Handler) -> None:
    """Headers without end."""
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(100_000):
            handler.wfile.write(b"X-%d: %s\r\n" % (number, b"y" * 1000))
    handler.close_connection = True


def endless_interim(handler: Handler) -> None:
    """100 Continue, for ever."""
    with suppress(OSError):
        for _ in range(1_000_000):
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    handler.close_connection = True


def noise(handler: Handler) -> None:
    """No HTTP."""
    handler.say(b"\x00\xff\r\n220 smtp.example.com ESMTP\r\n")
    handler.close_connection = True


def bomb(handler: Handler) -> None:
    """A small body that is 50 MB without its compression: zeros."""
    answer(200, _packed(), content_encoding="gzip")(handler)


@cache
def _packed() -> bytes:
    return gzip.compress(bytes(50_000_000))


FAULTS: Final[dict[str, Reaction]] = {
    "hang": hang,
    "reset": reset,
    "hang up": hang_up,
    "drip": drip,
    "huge head": huge_head,
    "endless interim answers": endless_interim,
    "noise": noise,
    "500": answer(500),
    "429": answer(429),
}
"""Faults that leave a request without an answer, or ask for another."""


@contextmanager
def receiving(tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Receiver]:
    """A receiver on 127.0.0.1."""
    receiver = Receiver()

    class Bound(Handler):
        pass

    Bound.receiver = receiver

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: Any) -> None:
            """A client that went away."""

    server = Server(("127.0.0.1", port), Bound)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def wait_for(receiver: Receiver, count: int, seconds: float = 20.0) -> None:
    """Until so many requests came."""
    end = time.monotonic() + seconds
    while len(receiver.received) < count:
        assert time.monotonic() < end, f"{len(receiver.received)} of {count} requests came"
        time.sleep(0.01)
