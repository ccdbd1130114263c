"""An htpasswd file: users and their stored passwords, read again when the file changes."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from functions.errors import ConfigError
from listener.filters.passwords.stored import StoredPassword, parse_htpasswd

log = logging.getLogger("smtp_relay.filters")

MAX_SIZE: Final = 1_048_576
"""Most bytes of such a file: some fifteen thousand users."""

MAX_AT_ONCE: Final = 65_536
"""Most bytes of a file that is read in the event loop, in some ten milliseconds; for larger ones
`large` asks for a thread."""

CHECK_EVERY: Final = 1.0
"""Seconds between two looks at the file."""

_SETTLED: Final = 2_000_000_000
"""Nanoseconds. If a file changed shortly before it was read, it may change once more with the same time
and size, so it is read again."""

_Signature = tuple[int, int, int]


class Htpasswd:
    """The users of one file. `clock` is monotonic, in seconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file. Raises ConfigError that names the line of a mistake."""
        self.path = path
        self._clock = clock
        self._signature: _Signature | None = None
        self._checked = clock()
        self.large = False
        self.digest = ""
        """SHA-256 (hex) of the file as last read."""
        self.users: Mapping[str, StoredPassword] | None = self._read()
        """None while the file cannot be used: only the file lists the users, so without it no login can
        be accepted or refused."""

    @property
    def due(self) -> bool:
        """True if `refresh` would look at the file: it does once a second."""
        return self._clock() - self._checked >= CHECK_EVERY

    def refresh(self, *, at_once: bool = False) -> bool:
        """Check if the file changed, if that is due or `at_once`; True if `users` is new."""
        if not (self.due or at_once):
            return False
        self._checked = self._clock()
        before, digest = self.users, self.digest
        try:
            if self._signature == _signature(self.path.stat()):
                return False
            users = self._read()
            if before is not None and self.digest == digest:
                return False
            self.users = users
            if before is None:
                log.info("%s can be used again", self.path)
        except (OSError, ConfigError) as error:
            self.users = None
            if isinstance(error, OSError):
                self._signature = None
            if before is not None:
                log.error("%s; its users are deferred until it is fixed", error)
        return True

    def _read(self) -> dict[str, StoredPassword]:
        try:
            with self.path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                data = stream.read(MAX_SIZE + 1)
        except OSError as error:
            self._signature = None
            raise ConfigError(str(self.path), f"cannot be read: {error.strerror}") from error
        self.large = len(data) > MAX_AT_ONCE
        self.digest = hashlib.sha256(data).hexdigest()
        settled = time.time_ns() - found.st_mtime_ns > _SETTLED
        self._signature = _signature(found) if settled else None
        if len(data) > MAX_SIZE:
            raise ConfigError(
                str(self.path), "is larger than 1 MiB", "ask about so many users with http-auth"
            )
        return _users(self.path, data)


def _signature(found: os.stat_result) -> _Signature:
    return found.st_mtime_ns, found.st_size, found.st_ino


def _users(path: Path, data: bytes) -> dict[str, StoredPassword]:
    users: dict[str, StoredPassword] = {}
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "is not UTF-8 text") from error
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        where = f"{path}, line {number}"
        name, colon, rest = text.partition(":")
        if not colon or not name:
            raise ConfigError(where, "is not USER:HASH", "write it with htpasswd -B")
        if name in users:
            raise ConfigError(where, f"user {name!r} stands there already", "remove one of the lines")
        try:
            users[name] = parse_htpasswd(rest)
        except ValueError as error:
            raise ConfigError(where, f"the password of {name!r}: {error}") from None
    return users
