"""A TCP proxy before an object store or a queue, which can be slow, refuse, cut or go silent."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.net import HOST

SLOW_DOWN: Final = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n"
    b"Content-Length: 96\r\nConnection: close\r\n\r\n"
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>  \n'
)

MOODS: Final = ("fine", "slow", "refusing", "cut mid-upload", "lost answers", "down")


class Proxy:
    """Forwards to a port of this machine; `mood` may be changed at any time. `lost` counts answers
    that were thrown away: what was asked for was done, and nobody was told."""

    def __init__(self, target: int, seed: str) -> None:
        self.mood = "fine"
        self.lost = 0
        self._target = target
        self._moments = random.Random(seed)
        self._socket = socket.create_server((HOST, 0), backlog=256)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _connection(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.mood == "down":
                _reset(client)
                return
            with socket.create_connection((HOST, self._target)) as server:
                back = threading.Thread(target=self._answers, args=(server, client), daemon=True)
                back.start()
                self._requests(client, server)
                back.join(30)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(65_536):
            mood = self.mood
            if mood == "refusing" and self._moments.random() < 0.5:
                with contextlib.suppress(OSError):
                    client.sendall(SLOW_DOWN)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65_536):
                        pass
                server.close()
                return
            if mood == "slow":
                time.sleep(self._moments.uniform(0.05, 0.4))
            if mood in ("cut mid-upload", "down") and self._moments.random() < 0.5:
                server.sendall(data[: len(data) // 2])
                _reset(server)
                _reset(client)
                return
            server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65_536):
                if self.mood == "lost answers" and self._moments.random() < 0.3:
                    self.lost += 1
                    _reset(client)
                    return
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    sock.close()


@contextmanager
def proxy(target: int, seed: str) -> Iterator[Proxy]:
    """Serve until the block ends."""
    made = Proxy(target, seed)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join(5)
