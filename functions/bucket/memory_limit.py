"""The bound on the mail that one instance holds in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

FACTOR: Final = 5
"""The memory that a delivery takes, in sizes of its mail: the object, the mail, its parts, an upload's
body, which is base64 in JSON for SES."""

LEAST: Final = 65_536  # bytes that the smallest mail counts for


class MemoryLimit:
    """Half of `memory`, in bytes, is for mails; requests wait for their turn."""

    def __init__(self, memory: int) -> None:
        self._most = memory // 2
        self._used = 0
        self._turn = threading.Condition()

    @contextmanager
    def room(self, size: int, seconds: float) -> Iterator[bool]:
        """Reserves room for a mail of `size` bytes; False if there was none within so many seconds. A
        mail that is larger than the whole limit goes alone."""
        need = min(self._most, max(LEAST, size) * FACTOR)
        with self._turn:
            had = self._turn.wait_for(lambda: self._used + need <= self._most, max(0.0, seconds))
            if had:
                self._used += need
        try:
            yield had
        finally:
            if had:
                with self._turn:
                    self._used -= need
                    self._turn.notify_all()
