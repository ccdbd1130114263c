"""Serving from start to end, in one process or several."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

from functions.local.layout import Lock
from functions.options.secrets import Runtime
from listener.checks.finding import Setting
from listener.checks.report import start_warnings
from listener.config.relay import RelayConfig
from listener.logs import setup as logs
from listener.monitoring.probes import Probes
from listener.server import build
from listener.server.announcement import announce
from listener.server.inbox import inbox_of
from listener.server.sockets import bind
from listener.server.worker import Reload, Server, SharedParts, event_loop, make_room, worker_count
from listener.smtp.connection_limits import LocalCounters

log = logging.getLogger("smtp_relay.server")


def run(config: RelayConfig, reload: Reload | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Raises ConfigError if a port, the spool or a secret is not available.
    """
    if reload is not None:
        # A SIGHUP waits until it can be answered, because even this early it asks for a reload and
        # not for the end.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    around = Runtime.here()
    logs.configure(config.log_outputs, folder=around.folder, environ=around.environ)
    logs.take_over()
    build.check_folders(config, around)
    workers = worker_count(config)
    listeners = config.resolved_listeners()
    only = len(listeners) == 1
    sockets = [(one, bind(one.bind, one.port, shared=workers > 1, only=only)) for one in listeners]
    for finding in start_warnings(config, Setting.of(around.folder, around.environ)):
        log.warning("%s: %s", finding.where or config.source, finding.text)
    make_room(config)
    lock = None if config.spool.in_bucket else Lock(config.spool.folder(around.folder))
    held_up = 0
    inbox, failed, script = None, None, None
    try:
        if lock is not None:
            build.clear_traces(config, around)
        if config.inbox is not None:
            from listener.filters.respond.memory import ScriptMemory
            from listener.monitoring.failed_logins import FailedLogins

            failed, script = FailedLogins.new(workers + 1), ScriptMemory.new()
            inbox = inbox_of(config, around, failed, script)
        probes = Probes(config, workers)
        if workers == 1:
            if inbox is not None:
                inbox.follow()
            own = failed.of(0) if failed is not None else None
            renew = partial(inbox.renew, around=around) if inbox is not None else None
            control = inbox.control if inbox is not None else None
            health = probes.worker_health(0)
            shared = SharedParts(LocalCounters(), probes.observer(0), health, own, renew, control, script)
            server = Server(config, around, sockets, shared=shared, reload=reload)
            with asyncio.Runner(loop_factory=event_loop) as runner:
                runner.run(_alone(server, probes, partial(announce, config, sockets)))
            held_up = server.held_up
        else:
            from listener.server.supervisor import Supervisor

            Supervisor(config, around, sockets, workers, probes, reload, inbox, failed).run()
    finally:
        if inbox is not None:
            inbox.stop()
        if lock is not None:
            lock.release()
    if held_up:
        # The interpreter would wait for their threads, long past `closeTimeout`.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
    return 0


async def _alone(server: Server, probes: Probes, ready: Callable[[], None]) -> None:
    """One process that serves its own health and metrics."""
    async with probes.served():
        await server.run(ready)
