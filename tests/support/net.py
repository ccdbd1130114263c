"""Loopback ports and waiting, with a bound on every wait."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final

HOST = "127.0.0.1"

PATIENCE: Final = 180.0
"""Seconds for what several processes do together. It is far more than they need, because the machine may be
busy with other things: a wait ends as soon as its condition holds."""


_PORTS: Final = range(20_000, 32_000)
"""Ports that the kernel gives to no client: Linux' `net.ipv4.ip_local_port_range` begins above them. A port
that the kernel chooses may be a client's when the server that is to have it starts."""

_SHARES: Final = 8


def _share() -> Iterator[int]:
    """The ports of this process, each once in a round: each process of pytest-xdist has its own."""
    size = len(_PORTS) // _SHARES
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    mine = _PORTS[number * size : (number + 1) * size]
    start = os.getpid() * 37 % size  # another run of the tests beside this one begins elsewhere
    return itertools.cycle((*mine[start:], *mine[:start]))


_next_ports: Final = _share()


def free_port() -> int:
    """A TCP port that no process listens on at this moment, and that no other process of these tests is
    given."""
    for port in itertools.islice(_next_ports, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise OSError("no port is free")


_LONGEST_PAUSE: Final = 0.25


def answers(port: int) -> bool:
    """True if a process accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str, every: float = 0.01) -> None:
    """Poll until the condition holds, but for half of the time only, because what is waited for needs the
    processor too. Raises TimeoutError that names the condition."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(max(every, min(now - began, _LONGEST_PAUSE)))
