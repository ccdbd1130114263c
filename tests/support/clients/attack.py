"""The conditions around any attack: it ends in time, memory stays flat, nothing is left behind, and the
server serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.clients.wire import submit
from tests.support.net import PATIENCE, wait_until
from tests.support.servers.relay import Relay

MEGABYTE: Final = 1_000_000

_MAIL: Final = b"Subject: still serving\r\n\r\nx\r\n"


@contextmanager
def attack(
    relay: Relay, *, seconds: float = 10, octets: int = 8 * MEGABYTE, ordinary: int | None = None
) -> Iterator[None]:
    """Bounds the block's time, and the server's additional memory. Afterwards no connection and no half
    mail is left, and (on `ordinary`, or the relay's port) a mail gets through, unless the relay accepts
    none from here."""
    port = relay.port if ordinary is None else ordinary
    if port:
        # Objects that are made once are made before the measurement, in each worker too.
        for _ in range(1 if "workers" not in relay.config else 50):
            assert submit(port, _MAIL).code == 250
    wait_until(lambda: _settled(relay), seconds=PATIENCE, what="a quiet server")
    before_files = relay.open_files()
    relay.reset_peak()
    before = relay.peak()
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    grown = relay.peak() - before
    assert took < seconds, f"it took {took:.1f} s"
    assert grown < octets, f"memory grew by {grown / MEGABYTE:.1f} MB"
    wait_until(lambda: relay.open_files() <= before_files, seconds=PATIENCE, what="all connections closed")
    wait_until(lambda: not list(relay.spool.rglob("*.eml")), seconds=PATIENCE, what="half mails removed")
    if port:
        assert submit(port, _MAIL).code == 250, "the server serves"


def _settled(relay: Relay) -> bool:
    """True if the server has closed, and counted out, every client's connection."""
    return not [line for line in _connections() if f":{relay.port:04X}" in line.split()[1]]


def _connections() -> list[str]:
    """TCP connections of this machine whose near end is open, although the far one may have closed its
    own (ESTABLISHED and CLOSE_WAIT; proc(5), net/tcp)."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [line for line in table if line.split()[3] in ("01", "08")]
