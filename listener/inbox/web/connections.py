"""Connections of clients that are slow, silent or many."""

from __future__ import annotations

import asyncio
import resource
from collections import defaultdict
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD: Final = 10.0
"""Seconds until a connection has to send the whole header of its next request."""

WHOLE: Final = 60.0
"""Seconds until the whole body has to follow."""

STALLED: Final = 30.0
"""Seconds for which a client may read nothing of what is sent to it."""

MOST: Final = 1_000
"""Most connections at a time."""

_FILES: Final = 4_096


class Connection(H11Protocol):
    """One connection. Where there are too many, the one that owes a request for the longest time is closed,
    of the client address that has most of those: strangers who hold connections hold none of others."""

    _owing: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _since = 0.0
    _request: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._owe(HEAD)
        if len(self.connections) > MOST:
            _make_room([one for one in self.connections if isinstance(one, Connection)])

    def connection_lost(self, exc: Exception | None) -> None:
        self._owe(None)
        self.resume_writing()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is h11.SEND_BODY:
            if self._request is not self.cycle:
                self._request = self.cycle
                self._owe(WHOLE)
        elif self.conn.their_state is not h11.IDLE:
            self._owe(None)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._owe(None)
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        if self.conn.their_state is h11.DONE:
            self._owe(HEAD)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALLED, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def _owe(self, seconds: float | None) -> None:
        """The client has to send something until then; None: it has sent all."""
        if self._owing is not None:
            self._owing.cancel()
        self._since = self.loop.time()
        self._owing = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


def _make_room(connections: list[Connection]) -> None:
    waiting: dict[Any, list[Connection]] = defaultdict(list)
    for one in connections:
        if one._owing is not None and not one.transport.is_closing():
            waiting[one.client[0] if one.client else ""].append(one)
    if waiting:
        crowd = max(waiting.values(), key=len)
        min(crowd, key=lambda one: one._since).transport.abort()


def allow_files() -> None:
    """Let this process have a file for each connection, as far as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
