"""The same bytes cut in two at every place, all over connections of their own at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Final

from tests.support.clients.wire import Wire

_BATCH: Final = 100
_READ: Final = 0.02  # seconds for the server to have read the first part


def send_split(
    port: int,
    octets: bytes,
    cuts: Iterable[int],
    prepare: Callable[[Wire], object],
    check: Callable[[Wire, int], None],
) -> None:
    """For each cut a connection: `prepare` it, send up to the cut, then the rest, then `check`."""
    remaining = list(cuts)
    while remaining:
        batch, remaining = remaining[:_BATCH], remaining[_BATCH:]
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(port)) for _ in batch]
            for wire in wires:
                prepare(wire)
            for wire, cut in zip(wires, batch, strict=True):
                wire.send(octets[:cut])
            time.sleep(_READ)
            for wire, cut in zip(wires, batch, strict=True):
                wire.send(octets[cut:])
            for wire, cut in zip(wires, batch, strict=True):
                check(wire, cut)
