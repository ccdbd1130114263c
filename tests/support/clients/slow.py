"""Clients that send a byte now and then."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable

from tests.support.clients.wire import Wire


def drip(wire: Wire, octets: Iterable[int], *, every: float = 0.1, most: float = 30) -> tuple[float, bytes]:
    """Send the bytes over and over, one at a time, until the server hangs up; returns the seconds until
    then, and the server's replies. Raises AssertionError if it does not within `most`."""
    began = time.monotonic()
    heard = b""
    wire.socket.settimeout(every)
    for octet in itertools.cycle(octets):
        try:
            wire.socket.sendall(bytes([octet]))
            got = wire.socket.recv(4096)
        except TimeoutError:
            pass
        except OSError:
            break
        else:
            if not got:
                break
            heard += got
        assert time.monotonic() - began < most, f"still there after {most} s: {heard!r}"
    return time.monotonic() - began, heard
