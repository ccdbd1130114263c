"""The time of a mail from MAIL to the 250 that takes it, as a client over loopback sees it.

smtp-source tells no times. This client costs little beside a server: all bytes are ready before the clock
runs, sockets are plain and blocking, and a command goes out when the reply to the one before it is here.
"""

from __future__ import annotations

import gc
import math
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

from tests.support.net import HOST

CONNECTIONS: Final = 4
MAILS: Final = 500
"""Mails of each connection."""

_COMMANDS: Final = (
    (b"MAIL FROM:<bench@client.example>\r\n", b"250"),
    (b"RCPT TO:<somebody@server.example>\r\n", b"250"),
    (b"DATA\r\n", b"354"),
)


@dataclass(frozen=True)
class Latency:
    """Percentiles in seconds, and the number of mails that were timed."""

    p50: float
    p99: float
    mails: int


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share (0 to 1) of the values do not exceed: the nearest rank.
    Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(round(share * len(values), 9)) - 1)]


def measure(
    port: int,
    mail: Path,
    *,
    mails: int = MAILS,
    connections: int = CONNECTIONS,
    reuse: bool = True,
    until: Callable[[], bool] | None = None,
) -> Latency:
    """Time so many mails on each of the connections, which run side by side; without `reuse` each mail has
    a connection of its own, whose start is not timed. With `until` each goes on until it says True instead,
    after at least one mail. Raises ConnectionError if the server refuses a mail or ends a connection."""
    steps = (*_COMMANDS, (content(mail.read_bytes()), b"250"))
    ended = until or (lambda: False)
    most = None if until else mails
    gc.collect()
    gc.disable()
    try:
        with ThreadPoolExecutor(connections) as pool:
            tasks = [pool.submit(_times, port, steps, most, ended, reuse) for _ in range(connections)]
            times = [one for task in tasks for one in task.result()]
    finally:
        gc.enable()
    return Latency(percentile(times, 0.5), percentile(times, 0.99), len(times))


def content(mail: bytes) -> bytes:
    """What DATA carries: lines end in CRLF, dots at their start are doubled, a dot ends it (RFC 5321,
    section 4.5.2)."""
    lines = re.sub(rb"\r?\n", b"\r\n", mail)
    stuffed = re.sub(rb"(?m)^\.", b"..", lines)
    return stuffed + (b"" if stuffed.endswith(b"\r\n") else b"\r\n") + b".\r\n"


def _times(
    port: int,
    steps: Sequence[tuple[bytes, bytes]],
    most: int | None,
    ended: Callable[[], bool],
    reuse: bool,
) -> list[float]:
    times: list[float] = []
    while not times or (not ended() if most is None else len(times) < most):
        with _session(port) as connection:
            while True:
                began = perf_counter()
                for command, expected in steps:
                    connection.sendall(command)
                    _expect(connection, expected)
                times.append(perf_counter() - began)
                if not reuse or ended() or len(times) == most:
                    break
    return times


@contextmanager
def _session(port: int) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _expect(connection, b"220")
        connection.sendall(b"EHLO client.example\r\n")
        _expect(connection, b"250")
        yield connection
        connection.sendall(b"QUIT\r\n")
        _expect(connection, b"221")


def _expect(connection: socket.socket, code: bytes) -> None:
    """Read one whole reply. Its last line has a space after the code (RFC 5321, section 4.2.1)."""
    reply = connection.recv(4096)
    while reply and not (reply.endswith(b"\r\n") and reply[reply.rfind(b"\n", 0, -1) + 4 :][:1] != b"-"):
        more = connection.recv(4096)
        reply = reply + more if more else b""
    if not reply.startswith(code):
        raise ConnectionError(f"the server answers {reply!r} where {code.decode()} is due")
