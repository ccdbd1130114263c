"""The process of the inbox: `python -m listener.inbox.web.process FD`.

The server that starts it gives the descriptor of a listening socket, and writes `InboxSettings` as one line
of JSON to its standard input. When that ends, this process ends too: no signal has to be sent, and a server
that is killed leaves nothing behind. The mails are shown by a child, which is started again when it dies;
requests wait at the socket meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

import uvicorn

from listener.inbox.deleting import Deleter
from listener.inbox.events import Hub
from listener.inbox.index import Index
from listener.inbox.keeper import Keeper
from listener.inbox.settings import InboxSettings
from listener.inbox.web.app import application
from listener.inbox.web.bodies import MOST
from listener.inbox.web.state import InboxServer
from listener.logs import setup as logs

log = logging.getLogger("smtp_relay.inbox")

_TICK: Final = 0.1
_QUICK: Final = 5.0
"""Seconds of life below which a child is started again after a pause only."""


class _Uvicorn(uvicorn.Server):
    """uvicorn that ends the streams first, because it waits for every request."""

    hub: Hub

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self.hub.close()


async def serve(settings: InboxSettings, listening: socket.socket) -> None:
    """Show the mails until SIGTERM or SIGINT, or until the index is removed."""
    index = await asyncio.to_thread(Index, settings.index)
    hub = Hub()
    places = settings.folders()
    by_user = settings.options.by == "user"
    keeper = Keeper(index, places, hub.publish, by_user=by_user)
    deleter = Deleter(index, places, Path(settings.spool))
    app = application(InboxServer(index, hub, deleter, settings.options))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=MOST,
        server_header=False,
        timeout_graceful_shutdown=1,
        limit_concurrency=1_000,
        root_path="",
    )
    server = _Uvicorn(config)
    server.hub = hub
    loop = asyncio.get_running_loop()
    keeper.on_removed = lambda: loop.call_soon_threadsafe(server.handle_exit, signal.SIGTERM, None)
    keeper.start()
    try:
        await asyncio.to_thread(keeper.is_complete.wait)
        await server.serve(sockets=[listening])
    finally:
        hub.close()
        await asyncio.to_thread(keeper.stop)
        index.close()


def main() -> int:
    """Run until standard input ends; returns the exit code."""
    settings = InboxSettings.model_validate_json(sys.stdin.buffer.readline())
    listening = socket.socket(fileno=int(sys.argv[1]))
    logs.configure()
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    child, since = _start(settings, listening), time.monotonic()
    while not stopping:
        with contextlib.suppress(InterruptedError):
            if select.select([sys.stdin], [], [], _TICK)[0]:
                break
        pid, status = os.waitpid(child, os.WNOHANG)
        if not pid:
            continue
        if status:
            log.error("the inbox died, starting it again", extra={"exit": os.waitstatus_to_exitcode(status)})
        if time.monotonic() - since < _QUICK and status:
            time.sleep(1.0)
        child, since = _start(settings, listening), time.monotonic()
    _end(child)
    return 0


def _start(settings: InboxSettings, listening: socket.socket) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        asyncio.run(serve(settings, listening))
        code = 0
    except BaseException:
        log.exception("the inbox cannot go on")
    finally:
        logging.shutdown()
        os._exit(code)


def _end(child: int) -> None:
    """End the child, within a second."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGTERM)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            if os.waitpid(child, os.WNOHANG)[0]:
                return
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    sys.exit(main())
