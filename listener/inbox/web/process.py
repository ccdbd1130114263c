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
import select
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn

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

_NICE: Final = 10
"""How much this process stands back where the SMTP server needs the processor."""


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
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=MOST,
        server_header=False,
        proxy_headers=False,  # the guard reads them, of the proxies that the file trusts
        timeout_graceful_shutdown=1,
        limit_concurrency=1_000,
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
        await asyncio.to_thread(keeper.is_complete.wait)
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
