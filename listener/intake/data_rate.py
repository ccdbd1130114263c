"""The rate at which a mail arrives."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW: Final = 60.0
"""Seconds that `minDataRate` looks back."""

STEP: Final = 5.0
"""Seconds between two marks."""


class DataRate:
    """The bytes of one mail over time. `began` is the event loop's time of DATA's 354; `mark` is called
    each second or so."""

    __slots__ = ("_began", "_marks")

    def __init__(self, began: float) -> None:
        self._began = began
        self._marks: deque[tuple[float, int]] = deque([(began, 0)], maxlen=int(WINDOW / STEP) + 1)

    def mark(self, now: float, size: int) -> None:
        """The mail has this many bytes now."""
        if now - self._marks[-1][0] >= STEP:
            self._marks.append((now, size))

    def too_slow(self, now: float, size: int, *, least: int, grace: float) -> bool:
        """True if fewer than `least` bytes a second came within the last WINDOW. The first `grace` seconds
        of a mail do not count."""
        counted = min(now - self._began - grace, WINDOW)
        return counted > 0 and size - self._marks[0][1] < counted * least

    def pace(self, now: float, size: int) -> float:
        """The rate of the last 5 to 10 seconds, in bytes a second."""
        for at, before in reversed(self._marks):
            if now - at >= STEP:
                return (size - before) / (now - at)
        return size / max(1.0, now - self._began)
