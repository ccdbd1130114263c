"""Sessions with one server: a bounded number, kept open between mails if configured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from functions.errors import Temporary
from functions.smtp_client.connection import Connection
from functions.smtp_client.reply import Unreachable
from functions.smtp_client.server import SmtpServer

IDLE: Final = 60.0
"""Seconds that an unused session stays open; servers close theirs after five minutes (RFC 5321
section 4.5.3.2.7), many sooner."""

TURN: Final = 30.0
"""Seconds that a mail waits for a session when all are busy."""

REST: Final = 60.0
"""Most seconds without a new attempt after a server did not answer."""

LOGIN_REST: Final = 10.0
"""Seconds without a new attempt after a refused login, because a hundred waiting mails must not lock the
account."""

Limit = Callable[[], float]


class Pool:
    """Sessions with `server`. With `keep` at most `most` of them, each for up to `messages`
    transactions; without it every mail has its own session."""

    def __init__(self, server: SmtpServer, *, keep: bool, most: int, messages: int) -> None:
        self.server = server
        self._keep = keep
        self._messages = messages
        self._turns = threading.BoundedSemaphore(most) if keep else None
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._timer: threading.Timer | None = None
        self._down_until = 0.0
        self._down: Unreachable | None = None
        self._closed = False

    @contextmanager
    def lease(self, limit: Limit) -> Iterator[Lease]:
        """The use of one session, which opens at its first use. Raises Temporary if none is free in
        time."""
        if self._turns is not None and not self._turns.acquire(timeout=max(0.0, min(TURN, limit()))):
            raise Temporary(f"every session with {self.server} is busy", enhanced="4.4.5")
        lease = Lease(self, limit)
        try:
            yield lease
        finally:
            lease.end()
            if self._turns is not None:
                self._turns.release()

    def close(self) -> None:
        """End every session, because the process is about to end. A thread that waits on a session gets
        an error at once, and a mail that waits for the reply to its final dot is in doubt."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for each in idle:
            each.quit()
        for each in busy:
            each.wire.cut()

    def take(self, limit: Limit, *, fresh: bool) -> Connection:
        """A session: an idle one unless `fresh`, else a new one. Raises Unreachable."""
        while not fresh and (idle := self._idle_one()) is not None:
            idle.wire.limit = limit
            if idle.alive():
                return idle
            self.give_up(idle)
        self._not_down()
        started = time.monotonic()
        try:
            made = Connection.open(self.server, limit)
        except Unreachable as fault:
            now = time.monotonic()
            rest = LOGIN_REST if fault.enhanced == "4.7.8" else min(REST, now - started)
            with self._lock:
                self._down, self._down_until = fault, now + rest
            raise
        with self._lock:
            self._busy.add(made)
            closed = self._closed
        if closed:
            self.give_up(made)
            raise Temporary("the server is going down", enhanced="4.3.2")
        return made

    def give_back(self, connection: Connection) -> None:
        """Return a session that is not needed any more."""
        with self._lock:
            self._busy.discard(connection)
            kept = (
                self._keep and not self._closed and not connection.broken and connection.used < self._messages
            )
            if kept:
                connection.since = time.monotonic()
                self._idle.append(connection)
                self._watch()
        if not kept:
            connection.quit()

    def give_up(self, connection: Connection) -> None:
        """Close a session that is unusable."""
        with self._lock:
            self._busy.discard(connection)
        connection.close()

    def _idle_one(self) -> Connection | None:
        with self._lock:
            if not self._idle:
                return None
            connection = self._idle.pop()
            self._busy.add(connection)
            return connection

    def _not_down(self) -> None:
        """After a time-out not every mail waits for the server again."""
        with self._lock:
            down, until = self._down, self._down_until
        if down is not None and time.monotonic() < until:
            raise Unreachable(down.reason, enhanced=down.enhanced, no_login=down.no_login)

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(IDLE, self._reap)
            self._timer.daemon = True
            self._timer.start()

    def _reap(self) -> None:
        with self._lock:
            self._timer = None
            old = [each for each in self._idle if time.monotonic() - each.since >= IDLE]
            self._idle = [each for each in self._idle if each not in old]
            if self._idle and not self._closed:
                self._watch()
        for each in old:
            each.quit()


class Lease:
    """One mail's use of a session."""

    def __init__(self, pool: Pool, limit: Limit) -> None:
        self._pool = pool
        self._limit = limit
        self._connection: Connection | None = None

    def connection(self, *, fresh: bool = False) -> Connection:
        """The session; a new one if the last one broke, or with `fresh`. Raises Unreachable."""
        current = self._connection
        if current is not None and not current.broken and not fresh:
            return current
        self.end()
        self._connection = self._pool.take(self._limit, fresh=fresh)
        return self._connection

    def end(self) -> None:
        """Give the session back."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            if connection.broken:
                self._pool.give_up(connection)
            else:
                self._pool.give_back(connection)
