"""The waits, the end and the number of attempts at one output, as its own options say."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from functions.errors import HeldBack
from functions.processors.base import OutputOptions, Processor

MOST_PACED: Final = 100_000
"""Mails whose outputs have times of their own in memory; the outputs of others share one."""

BUSY: Final = 5.0
"""Seconds that a mail waits for an output that is busy, if nothing wakes it."""

_EARLY: Final = 0.05  # seconds by which a timer may be early


class Waits(NamedTuple):
    """Seconds between attempts: the first wait, and the longest."""

    first: float = 30.0
    longest: float = 900.0


class Terms(NamedTuple):
    """What an output's own options say; None is what `delivery` says. Times are in seconds; `repeatable` as
    in `OutputOptions`."""

    waits: Waits | None = None
    give_up_after: float | None = None
    concurrency: int | None = None
    repeatable: bool = False

    @classmethod
    def of(cls, options: OutputOptions) -> Terms:
        """The terms of one output."""
        retry, end = options.retry, options.give_up_after
        return cls(
            None if retry is None else Waits(retry.first / 1000, retry.max / 1000),
            None if end is None else end / 1000,
            options.concurrency,
            options.repeatable,
        )


DEFAULT_TERMS: Final = Terms()


class Gate:
    """Lets mails into one processor, `most` at a time."""

    def __init__(self, processor: Processor, most: int | None) -> None:
        self._processor = processor
        self._most = most
        self._lock = threading.Lock()
        self._inside = 0

    @property
    def room(self) -> int:
        """The number of mails that may come in now."""
        room = self._processor.room
        return room if self._most is None else max(0, min(room, self._most - self._inside))

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Around the work on one mail. Raises HeldBack if there is no room."""
        with self._lock:
            if self._most is not None and self._inside >= self._most:
                raise HeldBack("the output is busy (concurrency)", retry_after=BUSY)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1


class Paces:
    """The next attempt at each output of the mails that have several failing ones: an output with short
    waits neither waits for the others nor hastens them. In memory only, because a start is a good moment
    for an attempt. Mails are known by a key of the caller's choice."""

    def __init__(self) -> None:
        self._mails: dict[Hashable, dict[str, tuple[int, float]]] = {}

    def due(self, mail: Hashable, output: str) -> bool:
        """True if an output may be tried now."""
        known = self._mails.get(mail)
        return known is None or output not in known or known[output][1] <= time.monotonic() + _EARLY

    def attempts(self, mail: Hashable, output: str, otherwise: int) -> int:
        """The attempts at an output so far, if it has a time of its own."""
        known = self._mails.get(mail)
        return otherwise if known is None or output not in known else known[output][0]

    def note(self, mail: Hashable, tried: Mapping[str, tuple[int, float]], left: frozenset[str]) -> float:
        """After a run: the outputs that were tried, with their attempts and the seconds until the next,
        and all outputs that are `left`. Returns the seconds until one of these is due."""
        now = time.monotonic()
        before = self._mails.pop(mail, {})
        known = {output: at for output, at in before.items() if output in left}
        known |= {output: (attempts, now + wait) for output, (attempts, wait) in tried.items()}
        if len(known) > 1 and len(self._mails) < MOST_PACED:
            self._mails[mail] = known
        if not known or len(known) < len(left):
            return 0.0  # only room was lacking for the others
        return max(0.0, min(at for _, at in known.values()) - now)

    def forget(self, mail: Hashable, output: str | None = None) -> None:
        """Try an output of a mail, or all, at its next attempt."""
        if output is None:
            self._mails.pop(mail, None)
        elif (known := self._mails.get(mail)) is not None and output in known:
            known[output] = (known[output][0], 0.0)
