"""Whatever the number of clients with large mails, the listener stays within its limit for bytes in
flight, and the clients wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.clients.wire import Wire
from tests.support.net import HOST
from tests.support.servers.relay import Relay

pytestmark = pytest.mark.slow

BUDGET = 64_000_000
SENDERS = 16
SIZE = 20_000_000


class Sink:
    """An S3 that forgets its uploads; each upload takes at least `pause` seconds."""

    def __init__(self, pause: float) -> None:
        self.stored: list[int] = []
        self.at_once = self.most = 0
        sink, lock = self, threading.Lock()
        never = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                length = left = int(self.headers["Content-Length"])
                with lock:
                    sink.at_once += 1
                    sink.most = max(sink.most, sink.at_once)
                while left:
                    left -= len(self.rfile.read(min(left, 1_048_576)))
                if length > 0.9 * SIZE:
                    never.wait(pause)
                with lock:
                    sink.at_once -= 1
                    sink.stored.append(length)
                self.send_response(200)
                self.send_header("ETag", '"x"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink(0.3)
    yield made
    made.close()


def test_memory_is_bounded_by_bytes_in_flight(sink: Sink, new_relay: Callable[..., Relay]) -> None:
    spool = {
        "url": "s3://mail/relay",
        "endpoint": sink.url,
        "bytesInFlight": BUDGET,
        "timeout": 60_000,
        "accessKeyId": "k",
        "secretAccessKey": "env:KEY",
    }
    line = b"0123456789abcdef" * 4 + b"\r\n"
    mails = {
        size: b"Subject: large\r\n\r\n" + line * (size // len(line)) + b".\r\n" for size in (5_000, SIZE)
    }
    environment = {"KEY": "s", "AWS_REGION": "us-east-1"}
    relay = new_relay({"spool": spool}, env=environment).start()

    def send(size: int) -> int:
        with Wire(relay.port, patience=120) as wire:
            wire.begin()
            wire.send(mails[size])
            return wire.reply().code

    with ThreadPoolExecutor(SENDERS) as pool:
        assert set(pool.map(send, [5_000] * 200)) == {250}
        base = relay.resident()
        relay.reset_peak()
        assert set(pool.map(send, [SIZE] * SENDERS)) == {250}
    held = (relay.peak() - base) / BUDGET
    assert len([size for size in sink.stored if size > 0.9 * SIZE]) == SENDERS
    assert sink.most > 1, "uploads ran beside one another"
    assert held <= 1.4, f"{held:.2f} times the budget above the base"
    assert relay.stop() == 0
