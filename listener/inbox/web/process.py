"""The process of the inbox: `python -m listener.inbox.web.process SOCKET SECONDS LOGINS SCRIPT`.

The server that starts it gives the descriptors of a listening socket, of the memory in which all of its
processes count failed logins, and of that of scripted answers. It writes `InboxSettings` as one line of
JSON to its standard input. When that ends, this process ends too: no signal has to be sent, and a server
that is killed leaves nothing behind. SECONDS is how long it waits before it begins, because one that dies at
once is started again and again; requests wait at the socket meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import socket
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from listener.filters.respond.memory import ScriptMemory
from listener.filters.respond.running import RunningScript
from listener.inbox.access.access import access_of
from listener.inbox.access.cookies import key_in
from listener.inbox.deleting import Deleter
from listener.inbox.deliveries import Deliveries
from listener.inbox.events import Hub
from listener.inbox.index import Index
from listener.inbox.keeper import Keeper
from listener.inbox.retrying import Retrier
from listener.inbox.settings import InboxSettings
from listener.inbox.web.app import application
from listener.inbox.web.bodies import MOST
from listener.inbox.web.state import InboxServer
from listener.logs import setup as logs
from listener.monitoring.failed_logins import FailedLogins

_NICE: Final = 2
"""How much this process stands back where the SMTP server needs the processor; the thread that reads new
mails does so more."""

_SWITCH: Final = 0.0005
"""Seconds for which the thread that reads new mails may hold up one that answers."""

_STEP: Final = 0.02
"""Seconds between two looks whether the index is made."""


HEAD: Final = 10.0
"""Seconds until a connection has to send the whole header of its next request."""

WHOLE: Final = 60.0
"""Seconds until the whole body has to follow."""

STALLED: Final = 30.0
"""Seconds for which a client may read nothing of what is sent to it."""

CONNECTIONS: Final = 1_000
"""Most connections at a time."""

_FILES: Final = 4_096


class HttpConnection(H11Protocol):
    """One connection. Where there are too many, the one that owes a request for the longest time is closed,
    of the client address that has most of those: strangers who hold connections hold none of others."""

    _owing: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _since = 0.0
    _request: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._owe(HEAD)
        if len(self.connections) > CONNECTIONS:
            _make_room([one for one in self.connections if isinstance(one, HttpConnection)])

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


def _make_room(connections: list[HttpConnection]) -> None:
    waiting: dict[Any, list[HttpConnection]] = defaultdict(list)
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


class _Uvicorn(uvicorn.Server):
    """uvicorn that ends the streams first, because it waits for every request. It takes no signals but
    SIGTERM."""

    hub: Hub

    def handle_exit(self, sig: int, frame: Any) -> None:
        if sig != signal.SIGINT:
            super().handle_exit(sig, frame)
            self.hub.close()


async def serve(
    settings: InboxSettings, listening: socket.socket, failed: FailedLogins, script: RunningScript
) -> None:
    """Show the mails until standard input ends, SIGTERM comes, or the index is removed."""
    index = await asyncio.to_thread(Index, settings.index)
    hub = Hub()
    places = settings.folders()
    by_user = settings.options.by == "user"
    keeper = Keeper(index, places, hub.publish, by_user=by_user)
    spool = Path(settings.spool)
    deleter = Deleter(index, places, spool)
    deliveries = Deliveries(places, settings.outputs, spool)
    key = await asyncio.to_thread(key_in, settings.index)
    access = access_of(settings.viewers, settings.logins, key, failed.of(-1), settings.most_failures)
    seen = InboxServer(
        index, hub, deleter, deliveries, Retrier(deliveries, spool), settings.options, script, spool
    )
    app = application(seen, access)
    config = uvicorn.Config(
        app,
        http=HttpConnection,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=MOST,
        server_header=False,
        proxy_headers=False,  # the guard reads them, of the proxies that the file trusts
        timeout_graceful_shutdown=1,
        root_path="",
    )
    server = _Uvicorn(config)
    server.hub = hub
    loop = asyncio.get_running_loop()
    end = partial(server.handle_exit, signal.SIGTERM, None)
    keeper.on_removed = lambda: loop.call_soon_threadsafe(end)
    loop.add_reader(sys.stdin.fileno(), end)
    keeper.start()
    try:
        while not keeper.is_complete.is_set() and not server.should_exit:
            await asyncio.sleep(_STEP)
        if not server.should_exit:
            await server.serve(sockets=[listening])
    finally:
        loop.remove_reader(sys.stdin.fileno())
        hub.close()
        access.logins.stop()
        await asyncio.to_thread(keeper.stop)
        index.close()


def main() -> int:
    """Run until standard input ends; returns the exit code."""
    # Ctrl-C goes to all processes of a terminal; the server ends this one when its own work is done.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICE)
    allow_files()
    sys.setswitchinterval(_SWITCH)
    settings = InboxSettings.model_validate_json(sys.stdin.buffer.readline())
    listening = socket.socket(fileno=int(sys.argv[1]))
    logs.configure()
    logs.take_over()
    if select.select([sys.stdin], [], [], float(sys.argv[2]))[0]:
        return 0
    script = RunningScript(ScriptMemory(int(sys.argv[4])))
    asyncio.run(serve(settings, listening, FailedLogins(int(sys.argv[3])), script))
    return 0


if __name__ == "__main__":
    sys.exit(main())
