"""Credentials that were right a moment ago, so that the same client does not wait for the hash again."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from typing import Final

from listener.filters.passwords.stored import StoredPassword

LONGEST: Final = 60.0
"""Seconds for which credentials may be remembered."""

MAX_USERS: Final = 4_096


class Remembered:
    """Remembers the last right password of each user for `seconds`, as a digest keyed with a secret of
    this object. The digest counts only for the same stored-password object; a reload and a changed file
    of users make new objects."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = min(seconds, LONGEST)
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._known: dict[str, tuple[StoredPassword, bytes, float]] = {}

    def add(self, username: str, stored: StoredPassword, password: str) -> None:
        """Remember that this password is right."""
        if not self._seconds:
            return
        self._known.pop(username, None)
        if len(self._known) >= MAX_USERS:
            del self._known[next(iter(self._known))]
        self._known[username] = stored, self._digest(username, password), self._clock() + self._seconds

    def knows(self, username: str, stored: StoredPassword | None, password: str) -> bool:
        """True if this password was right for that stored one a moment ago."""
        given = self._digest(username, password)
        known, expected, until = self._known.get(username, (None, b"", 0.0))
        if known is None or known is not stored or self._clock() >= until:
            self._known.pop(username, None)
            return False
        return hmac.compare_digest(given, expected)

    def forget(self) -> None:
        """Drop all."""
        self._known.clear()

    def _digest(self, username: str, password: str) -> bytes:
        text = f"{username}\0{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")
