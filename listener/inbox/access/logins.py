"""Logins: names with passwords (RFC 7617), and bearer tokens (RFC 6750)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from listener.api.network import network_of
from listener.filters.passwords.queue import CheckQueue
from listener.filters.passwords.remembered import LONGEST, Remembered
from listener.filters.passwords.stored import parse
from listener.filters.static_auth import Users
from listener.inbox.access.stored import MOST_FAILURES, StoredLogin
from listener.monitoring.failed_logins import ProcessFailures

_THREADS: Final = 2


class TooMany(Exception):
    """The network of the client failed too often."""


class Logins:
    """The users of the inbox. `failures` counts those that fail, `most` is how many a minute may."""

    def __init__(
        self, stored: Mapping[str, StoredLogin], failures: ProcessFailures, most: int = MOST_FAILURES
    ) -> None:
        self._users = Users({name: parse(one.password) for name, one in stored.items() if one.password})
        self._tokens = {name: parse(one.token) for name, one in stored.items() if one.token}
        self._failures = failures
        self._most = most
        self._remembered = Remembered(LONGEST)
        self._pool: ThreadPoolExecutor | None = None
        self._queue = CheckQueue(self._threads, _THREADS)

    async def user_of(self, field: str, client: str) -> str | None:
        """The user whom an Authorization field proves, None for no or a wrong one. Raises TooMany."""
        scheme, _, text = field.partition(" ")
        if scheme.lower() not in ("basic", "bearer"):
            return None
        network = network_of(client)
        if self._failures.count(network) >= self._most:
            raise TooMany
        if scheme.lower() == "bearer":
            user = self._of_token(text.strip())
        else:
            user = await self._of_password(*_basic(text), client)
        if user is None:
            self._failures.add(network)
        return user

    def stop(self) -> None:
        """Let the threads end after their present computations."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def _of_token(self, token: str) -> str | None:
        given, user = token.encode("utf-8", "replace"), None
        for name, stored in self._tokens.items():
            if stored.matches(given):
                user = name  # and go on: every refusal takes the same time
        return user

    async def _of_password(self, name: str, password: str, client: str) -> str | None:
        users, stored = self._users, self._users.stored(name)
        if not users.weight:
            return name if users.check(name, password) else None
        if self._remembered.knows(name, stored, password) or users.at_once(name, password):
            return name
        right = await self._queue.run(client, name, 0, partial(users.check, name, password))
        if right and stored is not None:
            self._remembered.add(name, stored, password)
        return name if right else None

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="inbox-login")
        return self._pool


def _basic(text: str) -> tuple[str, str]:
    """The name and password of RFC 7617, ("", "") for none."""
    try:
        name, _, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return "", ""
    return name, password
