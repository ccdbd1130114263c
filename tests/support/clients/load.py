"""Senders that number their mails, and the audit of the deliveries."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.clients.wire import Closed, Wire, stuffed
from tests.support.mails.stored import strip_added_fields
from tests.support.servers.relay import Server

_NUMBER: Final = re.compile(rb"\r\nX-Number: (\d+)\r\n")


def numbered(number: int) -> bytes:
    """The mail of a number: always the same; mostly small, every seventh one large enough to be
    captured in a file."""
    noise = random.Random(number)
    size = noise.randrange(70_000, 200_000) if number % 7 == 0 else noise.randrange(1, 4_000)
    line = hashlib.sha256(str(number).encode()).hexdigest().encode() + b"\r\n"
    body = (b"." if number % 3 == 0 else b"") + line * (size // len(line) + 1)
    return b"Subject: load\r\nX-Number: %d\r\n\r\n" % number + body


class Load:
    """Sent mails and mails answered 250, over all rounds."""

    def __init__(self) -> None:
        self.answered: set[int] = set()
        self.sent: set[int] = set()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @contextmanager
    def senders(self, port: int, count: int) -> Iterator[None]:
        """Keep `count` connections busy during the block; faults of the connection end a mail, not the
        sender."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._send, args=(port, stop, number), daemon=True)
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive(), "a sender hangs"

    def _send(self, port: int, stop: threading.Event, kind: int) -> None:
        while not stop.is_set():
            try:
                with Wire(port, patience=20) as wire:
                    wire.greet()
                    while not stop.is_set():
                        self._one(wire)
                        if kind % 2:
                            break
            except (OSError, Closed, AssertionError):
                stop.wait(0.02)

    def _one(self, wire: Wire) -> None:
        number = next(self._numbers)
        wire.envelope()
        with self._lock:
            self.sent.add(number)
        wire.send(stuffed(numbered(number)))
        if wire.reply().code == 250:
            with self._lock:
                self.answered.add(number)

    def audit(self, files: list[Path]) -> None:
        """Every answered mail exists, none twice, none torn. Raises AssertionError."""
        found: Counter[int] = Counter()
        for path in files:
            stored = path.read_bytes()
            match = _NUMBER.search(stored)
            assert match is not None, f"{path.name} is torn: {stored[:300]!r}"
            number = int(match[1])
            assert strip_added_fields(stored) == numbered(number), f"{path.name} is torn"
            found[number] += 1
        twice = {number for number, times in found.items() if times > 1}
        assert not twice, f"stored twice: {sorted(twice)[:10]}"
        lost = self.answered - found.keys()
        assert not lost, f"answered 250 and lost: {sorted(lost)[:10]} of {len(self.answered)}"
        assert found.keys() <= self.sent


def settle(server: Server, *, least: int, seconds: float = 30) -> None:
    """Wait until at least so many mails arrived and the server stays idle for a while."""
    import time

    deadline = time.monotonic() + seconds
    used, last = server.cpu(), time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(0.02)
        if (now := server.cpu()) > used:
            used, last = now, time.monotonic()
        elif time.monotonic() - last > 0.25 and len(server.files()) >= least:
            return
    raise TimeoutError(f"{len(server.files())} of {least} mails after {seconds:g} s")
