"""A real HTTP server on loopback that answers by a script and remembers its requests."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request as it came in; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Says:
    """One answer. `raw` replaces everything; `pace` writes the body a byte at a time and waits for the
    event before each."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    pace: threading.Event | None = None
    hang: threading.Event | None = None
    """Waits for this before anything is answered."""


class Endpoint:
    """`answer` is the answer, or a function of the request that returns it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: Says | Callable[[Asked], Says] = Says()
        self.asked: list[Asked] = []
        self.connections = 0
        self.closing = threading.Event()
        """Set when the test ends, so waiting answers give up."""

    def say(self, asked: Asked) -> Says:
        self.asked.append(asked)
        return self.answer if isinstance(self.answer, Says) else self.answer(asked)


@contextmanager
def endpoint(certificate: tuple[str, str] | None = None) -> Iterator[Endpoint]:
    """Serve until the block ends; `certificate` are the PEM files of a certificate and its key."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            made.connections += 1

        def log_message(self, *args: Any) -> None: ...

        def handle(self) -> None:
            with suppress(ConnectionError):  # a client that was killed
                super().handle()

        def respond(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            says = made.say(Asked(self.command, self.path, headers, self.rfile.read(length)))
            try:
                self.write(says)
            except OSError:
                self.close_connection = True

        def write(self, says: Says) -> None:
            if says.hang is not None:
                says.hang.wait(30)
            if says.raw is not None:
                self.wfile.write(says.raw)
                self.close_connection = True
                return
            self.send_response(says.status)
            for name, value in says.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in says.headers:
                self.send_header("Content-Length", str(len(says.body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if says.pace is None:
                self.wfile.write(says.body)
                return
            for octet in says.body:
                if made.closing.is_set():
                    break
                self.wfile.write(bytes([octet]))
                says.pace.wait(0.02)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = respond

    class Server(ThreadingHTTPServer):
        request_queue_size = 256  # with the usual 5 a crowd waits for retransmissions
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that do not trust us
        scheme = "https"
    made = Endpoint(f"{scheme}://127.0.0.1:{server.server_port}/ask?key=k")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
