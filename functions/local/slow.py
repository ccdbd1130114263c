"""Local outputs that are slow, and therefore run in the pool for a while."""

from __future__ import annotations

import logging
from typing import Final

from functions.delivery.engine import Task

log = logging.getLogger("smtp_relay.delivery")

SLOW: Final = 0.1
"""Seconds after which a quick output counts as slow if it happens twice within HICCUP, because on a
busy machine it happens once to any output. The output then runs in the pool for a while, because a slow
folder must not hold up the event loop."""

HICCUP: Final = 5.0

HANGING: Final = 1.0
"""Seconds after which once is enough."""

SLOW_FOR: Final = 60.0


class SlowOutputs:
    """Records which quick outputs are slow. Times are the event loop's, in seconds."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._hiccups: dict[int, float] = {}

    @property
    def any(self) -> bool:
        """True if an output was ever slow."""
        return bool(self._until)

    def counts(self, task: Task, now: float) -> bool:
        """True if the output counts as slow."""
        return self._until.get(id(task.output), 0.0) > now

    def took(self, task: Task, label: str, seconds: float, now: float) -> None:
        """An attempt took longer than SLOW."""
        place = id(task.output)
        before = self._hiccups.get(place)
        self._hiccups[place] = now
        if seconds < HANGING and (before is None or now - before > HICCUP):
            return
        if not self.counts(task, now):
            log.warning("a local output is slow", extra={"output": label, "seconds": round(seconds, 3)})
        self._until[place] = now + SLOW_FOR
