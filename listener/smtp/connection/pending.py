"""The outcomes that a connection waits for, one at a time: filters, names, the spool, a delay."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from listener.api.session import Session

log = logging.getLogger("smtp_relay.smtp")


class PendingHost(Protocol):
    """The interface that waiting needs from the connection."""

    loop: asyncio.AbstractEventLoop
    session: Session

    @property
    def closed(self) -> bool: ...
    def wait(self) -> None: ...
    def ready(self) -> None: ...
    def resume(self) -> None: ...
    def fail(self) -> None: ...


class Pending:
    """The outcome that one connection waits for. The connection executes nothing else in between."""

    __slots__ = ("_host", "_task")

    def __init__(self, host: PendingHost) -> None:
        self._host = host
        self._task: asyncio.Task[None] | None = None

    def settle(self, outcome: Any | Awaitable[Any], then: Callable[[Any], None]) -> None:
        """Go on with `then(outcome)`: at once, or when the awaited outcome is there."""
        # An immediate outcome is None, a Reply or a DataOutcome; both are tuples.
        if outcome is None or isinstance(outcome, tuple):
            then(outcome)
            return
        self._host.wait()
        self._task = self._host.loop.create_task(self._awaited(outcome, then))

    async def _awaited(self, outcome: Awaitable[Any], then: Callable[[Any], None]) -> None:
        host = self._host
        try:
            result = await outcome
            host.ready()
            self._task = None
            then(result)
        except Exception:
            log.exception("fault while waiting for filters", extra={"session": host.session.id})
            host.fail()
        host.resume()

    def pause(self, seconds: float, then: Callable[[], None]) -> None:
        """Go on with `then` in so many seconds, unless the connection ends before."""
        self._host.wait()
        self._host.loop.call_later(seconds, self._paused, then)

    def _paused(self, then: Callable[[], None]) -> None:
        if not self._host.closed:
            self._host.ready()
            then()
            self._host.resume()

    def cancel(self) -> None:
        """Wait no longer."""
        if self._task is not None and self._task is not asyncio.current_task(self._host.loop):
            self._task.cancel()
        self._task = None
