"""Several serving processes on the same ports: a parent starts, watches and stops them.

The parent has no event loop and no thread, so it can fork at any time. A process of its own serves
health and metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from functions.errors import ConfigError
from functions.options.secrets import Runtime
from listener.filters.respond.memory import ScriptMemory
from listener.logs import setup as observe
from listener.monitoring.probes import Probes
from listener.server import build
from listener.server.announcement import announce
from listener.server.counters import SharedCounters
from listener.server.dry_run import try_config
from listener.server.sockets import SPREADS, Sockets, bind, close_all, reuseport_socket
from listener.server.worker import (
    Reload,
    Server,
    SharedParts,
    check_reload,
    make_room,
    serve_process,
    tell_what_waits,
)
from listener.smtp.tls import context as tls

if TYPE_CHECKING:
    from listener.config.listeners import Listener
    from listener.config.relay import RelayConfig
    from listener.monitoring.failed_logins import FailedLogins
    from listener.server.inbox import InboxProcess

log = logging.getLogger("smtp_relay.server")

QUICK: Final = 5.0
"""A worker that dies within so many seconds of its start is started again a second later."""

MISTAKE: Final = 2
"""Exit code of a worker that cannot serve its configuration."""

AGAIN: Final = 5.0
"""Seconds before a worker that served before, and cannot start now, is tried again."""

PROBES: Final = -1
"""The number of the process that serves health and metrics, among the workers' numbers."""


class Supervisor:
    """The parent of the workers."""

    def __init__(
        self,
        config: RelayConfig,
        around: Runtime,
        sockets: Sequence[tuple[Listener, Sockets]],
        workers: int,
        probes: Probes,
        reload: Reload | None,
        inbox: InboxProcess | None = None,
        failed: FailedLogins | None = None,
    ) -> None:
        self._inbox = inbox
        self._failed = failed
        self._config = config
        self._around = around
        self._sockets = sockets
        self._workers = workers
        self._probes = probes
        self._reload = reload
        self._counters = SharedCounters(workers)
        self._script = ScriptMemory.new() if inbox is None else inbox.script
        self._running: dict[int, tuple[int, float]] = {}
        self._started: set[int] = set()
        self._mistaken = False
        self._stopping = False

    def run(self) -> None:
        """Run the workers until SIGTERM or SIGINT; one that dies is started again on its own part of
        the spool. Raises ConfigError if they cannot start."""
        for listener, _ in self._sockets:
            tls.prepare(listener.options, build.host_name(listener.options))
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        if self._reload is not None:
            signal.signal(signal.SIGHUP, self._read_again)
        if self._probes.any:
            self._start(PROBES)
        for index in range(self._workers):
            self._start(index)
        while self._running:
            try:
                pid, status = os.wait()
            except InterruptedError:
                continue
            if self._inbox is not None and self._inbox.ended(pid):
                continue
            index, since = self._running.pop(pid, (PROBES - 1, 0.0))
            if index >= PROBES:
                self._ended(index, since, os.waitstatus_to_exitcode(status))
        if self._mistaken:
            raise ConfigError("worker", "could not start: its own message is above")

    def _ended(self, index: int, since: float, code: int) -> None:
        if self._stopping:
            if PROBES in (number for number, _ in self._running.values()) and len(self._running) == 1:
                self._tell(signal.SIGTERM, probes=True)
            return
        if code == MISTAKE and index not in self._started:
            # The parent waits for the others, because the spool is theirs until they end.
            self._mistaken = True
            self._stop()
            return
        self._started.add(index)
        log.error("a process of the server died, starting it again", extra={"worker": index, "exit": code})
        if code == MISTAKE:
            # A resource that it needs is missing for now. The others, which have it, continue to
            # serve.
            self._pause(AGAIN)
        elif time.monotonic() - since < QUICK:
            self._pause(1.0)
        if not self._stopping:
            self._start(index)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(0.05)

    def _start(self, index: int) -> None:
        if index != PROBES:
            self._counters.forget(index)
            self._probes.expect(index)
        # Signals wait until the child is known, because a stop could miss it otherwise.
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        pid = os.fork()
        if pid:
            self._running[pid] = (index, time.monotonic())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            return
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # SIGHUP stays blocked until the worker can answer it, so none is lost meanwhile.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals - {signal.SIGHUP})
            self._serve_probes() if index == PROBES else self._serve(index)
            code = 0
        except ConfigError as mistake:
            log.critical("%s", mistake)
            code = MISTAKE
        except BaseException:
            log.exception("a process of the server failed", extra={"worker": index})
        finally:
            logging.shutdown()
            os._exit(code)

    def _serve(self, index: int) -> None:
        # Each worker has a socket of its own on the port that the parent holds, where the kernel then
        # spreads connections over the workers (SO_REUSEPORT).
        own = [
            (listener, [one for sock in sockets for one in reuseport_socket(sock)])
            for listener, sockets in self._sockets
        ]
        shared = SharedParts(
            self._counters.of(index),
            self._probes.observer(index),
            self._probes.worker_health(index),
            self._failed.of(index) if self._failed is not None else None,
            control=self._inbox.control if self._inbox is not None else None,
            script=self._script,
        )
        server = Server(self._config, self._around, own, index=index, shared=shared, reload=self._reload)
        # The first one speaks for all, once: a worker that is started again says nothing new.
        speaks = index == 0 and index not in self._started
        serve_process(server, lambda: announce(self._config, self._sockets) if speaks else None)

    def _serve_probes(self) -> None:
        self._leave_ports()

        async def serve() -> None:
            stopped = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
            async with self._probes.served():
                await stopped.wait()

        asyncio.run(serve())

    def _stop(self, *arguments: object) -> None:
        self._stopping = True
        self._leave_ports()
        # Health is served to the end, because a load balancer watches the drain.
        self._tell(signal.SIGTERM, probes=len(self._running) == 1)

    def _leave_ports(self) -> None:
        """Where all processes have the same sockets, the ports are open until the last one closes them."""
        if not SPREADS:
            close_all(sockets for _, sockets in self._sockets)

    def _read_again(self, *arguments: object) -> None:
        """Pass on only a configuration that a worker can serve, because later workers get it too, and
        its ports."""
        # Another SIGHUP waits for the end of this one.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            self._take_up()
        except ConfigError as mistake:
            log.error("the configuration was not used: %s", mistake)
        except Exception:
            log.exception("the configuration was not used")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _take_up(self) -> None:
        assert self._reload is not None
        config = self._reload()
        check_reload(self._config, config)
        held = {(listener.bind, listener.port): sockets for listener, sockets in self._sockets}
        wanted = {(listener.bind, listener.port): listener for listener in config.resolved_listeners()}
        fresh: dict[tuple[str, int], Sockets] = {}
        taken = False
        try:
            for address in wanted.keys() - held.keys():
                fresh[address] = bind(*address, shared=True)
            taken = try_config(config, self._around)
        finally:
            if not taken:
                close_all(fresh.values())
        if not taken:
            return
        tell_what_waits(self._config, config)
        # Workers that are started later have these from here.
        observe.configure(config.log_outputs, folder=self._around.folder, environ=self._around.environ)
        make_room(config)
        self._config = config
        held |= fresh
        self._sockets = [(listener, held.pop(address)) for address, listener in wanted.items()]
        close_all(held.values())
        self._tell(signal.SIGHUP, probes=False)
        if self._inbox is not None:
            self._inbox.renew(config, self._around)

    def _tell(self, number: int, *, probes: bool) -> None:
        for pid, (index, _) in list(self._running.items()):
            if index != PROBES or probes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
