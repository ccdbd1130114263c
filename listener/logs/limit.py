"""Bounds the log lines that strangers cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from listener.api.network import network_of

PERIOD: Final = 60.0
"""Seconds for which lines are counted together."""

MAX_COUNTED: Final = 4_096
"""Most addresses and kinds of lines that are counted at a time; the oldest count ends first."""


class _Count:
    __slots__ = ("began", "left_out", "level", "written")

    def __init__(self, began: float, level: int) -> None:
        self.began = began
        self.level = level
        self.written = 0
        self.left_out = 0


class LineLimit:
    """Writes at most `most` log lines a minute of each kind about one client address (IPv6: about its
    network of `prefix` bits). It counts the others, and reports them in one line when the minute is
    over or `end` is called. None means no limit."""

    def __init__(
        self,
        logger: logging.Logger,
        most: int | None,
        prefix: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._most = most
        self._prefix = prefix
        self._clock = clock
        self._counts: dict[tuple[str, str], _Count] = {}

    def write(
        self, level: int, message: str, extra: Mapping[str, Any], *words: object, most: int | None = None
    ) -> None:
        """Log `message`, which has placeholders for `words` and identifies the kind of the line. `extra`
        has the client's `ip`. `most`, if given, replaces the limit."""
        limit = self._most if most is None else most
        if limit is None:
            self._logger.log(level, message, *words, extra=extra)
            return
        key = message, network_of(str(extra["ip"]), self._prefix)
        now = self._clock()
        count = self._counts.get(key)
        if count is not None and now - count.began >= PERIOD:
            self._end(key)
            count = None
        if count is None:
            if len(self._counts) >= MAX_COUNTED:
                self._end(next(iter(self._counts)))
            count = self._counts[key] = _Count(now, level)
        if count.written < limit:
            count.written += 1
            self._logger.log(level, message, *words, extra=extra)
        else:
            count.left_out += 1

    def tick(self) -> None:
        """Called each second: report the lines left out in minutes that are over."""
        now = self._clock()
        while self._counts:
            key, oldest = next(iter(self._counts.items()))
            if now - oldest.began < PERIOD:
                return
            self._end(key)

    def end(self) -> None:
        """Report all lines left out."""
        for key in list(self._counts):
            self._end(key)

    def _end(self, key: tuple[str, str]) -> None:
        count = self._counts.pop(key)
        if count.left_out:
            kind, network = key
            about = {"ip": network, "kind": kind.partition(":")[0], "times": count.left_out}
            self._logger.log(count.level, "more lines of one kind were left out", extra=about)
