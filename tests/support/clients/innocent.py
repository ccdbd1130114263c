"""An ordinary client beside an attack: the time of each of its mails, and the memory of the server."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from tests.support.clients.wire import submit
from tests.support.process import peak_resident, resident, tree
from tests.support.servers.relay import Relay

MAIL: Final = b"Subject: ordinary\r\n\r\n" + b"one of the lines of it\r\n" * 200


@dataclass
class Ordinary:
    """Mails of 5 KB, one after the other, each over a connection of its own, as most clients send them."""

    relay: Relay
    seconds: list[float] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def send(self, count: int) -> None:
        """Send so many mails."""
        for _ in range(count):
            began = time.perf_counter()
            self.codes.append(submit(self.relay.port, MAIL).code)
            self.seconds.append(time.perf_counter() - began)

    @property
    def p99(self) -> float:
        """The time that 99 of 100 mails stayed below."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


class Memory:
    """The growth of the memory of all processes of a server since this object was made."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        relay.reset_peak()
        self._before = sum(resident(pid) for pid in tree(relay.pid))

    @property
    def grown(self) -> int:
        """Bytes at the peak, the peaks of all processes together."""
        return sum(peak_resident(pid) for pid in tree(self._relay.pid)) - self._before


def report(attack: str, ordinary: Ordinary, memory: Memory) -> None:
    """Print the figures of an attack, for docs/security.md."""
    print(f"{attack}: p99 {ordinary.p99 * 1000:.0f} ms, memory {memory.grown / 1_048_576:.1f} MiB")
