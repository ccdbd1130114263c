"""The refresh token, and the file that gets its replacement."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from functions.errors import ConfigError
from functions.options.secrets import without_line_end
from functions.processors.mailer.oauth.request import TOTAL, NoToken

log: Final = logging.getLogger("smtp_relay.output.mailer")

_PAUSE: Final = 0.05
"""Seconds between two tries to get the lock."""


class Held(Protocol):
    """A refresh token that no other process uses meanwhile."""

    @property
    def token(self) -> str: ...

    def replace(self, token: str) -> None:
        """The endpoint gave another one: keep it. Raises NoToken."""


class KeptToken:
    """A refresh token that the endpoint does not replace."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._told = False

    @contextmanager
    def held(self, limit: Callable[[], float]) -> Iterator[Held]:
        yield self

    def replace(self, token: str) -> None:
        """Drop the new token, because nothing can keep it: the endpoint may still take the old one."""
        if not self._told:
            self._told = True
            log.warning("the token endpoint gave another refresh token, which rotates: false drops")


class TokenFile:
    """A refresh token in a file. It is read anew and replaced under a lock, because a token that was
    replaced may be refused, and then all tokens of its line."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))
        self._lock = self._path.with_name(f".{self._path.name}.lock")
        self._unwritten: str | None = None
        self.token = ""

    def check(self, where: str) -> None:
        """Raises ConfigError if no replacement could be written."""
        folder = self._path.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(
                where,
                f"a replaced token cannot be written: no file can be made in {folder}",
                'let the relay write there, or set "rotates": false if the endpoint keeps it',
            )

    @contextmanager
    def held(self, limit: Callable[[], float]) -> Iterator[Held]:
        """The token, under the lock. Raises NoToken."""
        import fcntl

        try:
            descriptor = os.open(self._lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed("locked", error) from error
        try:
            deadline = time.monotonic() + min(TOTAL, limit())
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise self._failed("locked", error) from error
                    time.sleep(_PAUSE)
            if self._unwritten is not None:
                self.replace(self._unwritten)
            try:
                self.token = without_line_end(self._path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise self._failed("read", error) from error
            yield self
        finally:
            os.close(descriptor)

    def replace(self, token: str) -> None:
        """Write the new token, durably and at once for every reader. Raises NoToken; the next request
        then begins with the write."""
        self._unwritten = token
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        try:
            with suppress(FileNotFoundError):
                new.unlink()
            with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                with suppress(OSError):
                    old = self._path.stat()
                    os.fchmod(file.fileno(), old.st_mode & 0o777)
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                file.write(token.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._failed("written", error) from error
        self._unwritten = None
        self.token = token

    def _failed(self, what: str, error: Exception) -> NoToken:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        return NoToken(f"the refresh token cannot be {what}: {self._path}: {reason}", enhanced="4.3.0")


Store = KeptToken | TokenFile
