"""A TCP proxy before a cloud's services, which can be slow, refuse, cut or go silent."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.net import HOST


def _answer(status: str, body: str, media: str = "application/xml") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return (head + body).encode()


def _refusal(status: str, code: str) -> bytes:
    return _answer(
        status, f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>as told</Message></Error>'
    )


REFUSALS: Final = {
    "refusing": _refusal("503 Service Unavailable", "ServiceUnavailable"),
    "throttling": _refusal("429 Too Many Requests", "SlowDown"),
    "full": _refusal("507 Insufficient Storage", "InsufficientStorage"),
    "denied": _refusal("403 Forbidden", "AccessDenied"),
}
"""Mood to its answers; the first two apply half of the time, the others always."""

BEHAVIOURS: Final = ("fine", "slow", *REFUSALS, "cut mid-upload", "lost answers", "down")

BLOCKING: Final = frozenset({"full", "denied", "down"})
"""Moods in which nothing gets through."""


FAILED_ENTRIES: Final = "failed entries"
HANGING: Final = "hanging"

ANSWERING: Final = (*BEHAVIOURS, HANGING, FAILED_ENTRIES)
"""Behaviours before services whose clients wait for less than `HANG`."""

HANG: Final = 4.0
"""Seconds."""

_PUT_EVENTS: Final = b"AWSEvents.PutEvents"


def _failed_entry(code: str) -> bytes:
    """EventBridge took none of the events of a request, whose status is 200."""
    entry = {"ErrorCode": code, "ErrorMessage": "as told"}
    body = json.dumps({"FailedEntryCount": 1, "Entries": [entry]})
    return _answer("200 OK", body, "application/x-amz-json-1.1")


class Proxy:
    """Forwards to a port of this machine; `behaviour` and `target` may be changed at any time."""

    def __init__(self, target: int, seed: str) -> None:
        self.behaviour = "fine"
        self.target = target
        self.failed_entries = 0
        self._moments = random.Random(seed)
        self._socket = socket.create_server((HOST, 0), backlog=256)
        self.port: int = self._socket.getsockname()[1]
        self.address = f"{HOST}:{self.port}"
        self.url = f"http://{self.address}"

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

    def _sometimes(self, chance: float) -> bool:
        return self._moments.random() < chance

    def _connection(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.behaviour == "down":
                _reset(client)
                return
            with socket.create_connection((HOST, self.target)) as server:
                back = threading.Thread(target=self._answers, args=(server, client), daemon=True)
                back.start()
                self._requests(client, server)
                back.join(30)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(65_536):
            behaviour = self.behaviour
            if behaviour in REFUSALS and (behaviour in BLOCKING or self._sometimes(0.5)):
                _refuse(client, REFUSALS[behaviour])
                _reset(server)
                return
            if behaviour == FAILED_ENTRIES and _PUT_EVENTS in data and self._sometimes(0.5):
                code = "ThrottlingException" if self._sometimes(0.5) else "InternalFailure"
                self.failed_entries += 1
                _refuse(client, _failed_entry(code))
                _reset(server)
                return
            if behaviour == HANGING and self._sometimes(0.3):
                time.sleep(HANG)
                _reset(server)
                _reset(client)
                return
            if behaviour == "slow":
                time.sleep(self._moments.uniform(0.05, 0.4))
            if behaviour == "down" or (behaviour == "cut mid-upload" and self._sometimes(0.5)):
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
                if self.behaviour == "lost answers" and self._sometimes(0.3):
                    _reset(client)
                    return
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


def _refuse(client: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(5)
        while client.recv(65_536):
            pass


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
