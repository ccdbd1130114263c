"""Loopback ports and waiting, with a bound on every wait."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

HOST = "127.0.0.1"

PATIENCE: Final = 180.0
"""Seconds for what several processes do together. It is far more than they need, because the machine may be
busy with other things: a wait ends as soon as its condition holds."""


def free_port() -> int:
    """A TCP port that no process listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """True if a process accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str, every: float = 0.01) -> None:
    """Poll until the condition holds. Raises TimeoutError that names the condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(every)
