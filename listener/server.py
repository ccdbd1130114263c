"""Running the listener: one process or several, from start to drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from functions.folder import Lock, Part, parts
from functions.local import LocalDelivery
from listener import build
from listener.build import Filters, Surroundings
from listener.gate import Counters, Gate, LocalCounters
from listener.intake import Intake
from listener.observer import NULL, Observer
from listener.port import Port
from listener.spool import LocalSpool, Spool

if TYPE_CHECKING:
    from listener.config import Listener, RelayConfig

log = logging.getLogger("smtp_relay.server")

TICK: Final = 1.0
BACKLOG: Final = 1024


@dataclass(slots=True)
class Shared:
    """What the processes of one server share."""

    counters: Counters
    observer: Observer


class Server:
    """One serving process: its ports, its part of the spool, its clock."""

    def __init__(
        self,
        config: RelayConfig,
        around: Surroundings,
        listeners: Sequence[tuple[Listener, list[socket.socket]]],
        index: int = 0,
        shared: Shared | None = None,
    ) -> None:
        self.config = config
        self.around = around
        self.index = index
        self.shared = shared or Shared(LocalCounters(), NULL)
        self._listeners = listeners
        self._servers: list[asyncio.Server] = []
        self._ports: list[Port] = []
        self._deliveries: list[LocalDelivery] = []
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._filters: Filters
        self._spool: Spool

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until asked to stop; returns when everything in hand is finished.

        Raises ConfigError when the configuration cannot be carried out.
        """
        self._loop = asyncio.get_running_loop()
        await self._start()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        ready()
        ticking = self._loop.create_task(self._tick())
        await self._stop.wait()
        await self._drain()
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking

    async def _start(self) -> None:
        config, around, observer = self.config, self.around, self.shared.observer
        self._filters = Filters(config, around)
        self._filters.observe(observer)
        self._spool = self._open_spool()
        await self._filters.start()
        for listener, sockets in self._listeners:
            port = self._port(listener, observer)
            self._ports.append(port)
            for sock in sockets:
                server = await self._loop.create_server(port.make, sock=sock, backlog=BACKLOG)
                self._servers.append(server)

    def _open_spool(self) -> Spool:
        folder = build.spool_folder(self.config, self.around)
        part = Part(folder / f"part-{self.index}")
        local = self._deliver(part)
        if self.index == 0:
            workers = worker_count(self.config)
            for other in parts(folder):
                number = other.folder.name.removeprefix("part-")
                if number.isdecimal() and int(number) >= workers:
                    # A part of a server that had more workers: delivered, never added to.
                    self._deliver(other)
        min_free = max(listener.options.min_free_space for listener, _ in self._listeners)
        return LocalSpool(local, folder, part.large, min_free)

    def _deliver(self, part: Part) -> LocalDelivery:
        delivery = build.build_local(self.config, self.around, part, self.shared.observer)
        delivery.start()
        self._deliveries.append(delivery)
        return delivery

    def _port(self, listener: Listener, observer: Observer) -> Port:
        config, options = self.config, listener.options
        hostname = build.host_name(options)
        intake = Intake(
            self._spool.capture_folder,
            build.header_edits(config, self._filters, hostname),
            hostname=hostname,
            received=options.received,
            max_size=options.size or sys.maxsize,
            max_header=options.max_header_size,
            config_digest=config.digest,
        )
        gate = Gate(self.shared.counters, options.max_clients or 0, options.max_clients_per_ip or 0)
        return Port(
            listener,
            self._filters.flows(options, observer),
            intake,
            self._spool,
            gate,
            hostname=hostname,
            loop=self._loop,
            observer=observer,
            log_addresses=config.logs_addresses,
        )

    async def _tick(self) -> None:
        while True:
            now = self._loop.time()
            for port in self._ports:
                port.tick(now)
            self._spool.tick()
            await asyncio.sleep(TICK)

    async def _drain(self) -> None:
        """Take no more connections, let the mails being sent come in, then finish the spool."""
        log.info("draining")
        for server in self._servers:
            server.close()
        for port in self._ports:
            port.drain()
        patience = max((p.close_timeout for p in self._ports), default=0.0)
        deadline = time.monotonic() + patience
        while any(p.connections for p in self._ports) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for port in self._ports:
            for connection in list(port.connections):
                connection.transport.abort()
        await self._filters.stop()
        for delivery in self._deliveries:
            await delivery.stop(max(1.0, deadline - time.monotonic()))
        log.info("stopped")


def worker_count(config: RelayConfig) -> int:
    """How many processes serve; `auto` is one per core."""
    return (os.cpu_count() or 1) if config.workers == "auto" else config.workers


def event_loop() -> Any:
    """A new event loop: uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def serve_process(server: Server, ready: Callable[[], None]) -> None:
    """Run one serving process to its end."""
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(server.run(ready))


def run(config: RelayConfig, reload: Callable[[], RelayConfig] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Raises ConfigError when a port, the spool or a secret cannot be had.
    """
    around = Surroundings.here()
    workers = worker_count(config)
    listeners = [
        (listener, build.bind(listener.bind, listener.port, shared=workers > 1))
        for listener in config.resolved_listeners()
    ]
    lock = Lock(build.spool_folder(config, around))
    try:
        if workers == 1:
            serve_process(Server(config, around, listeners), lambda: announce(listeners))
        else:
            from listener.workers import supervise

            supervise(config, around, listeners, workers)
    finally:
        lock.release()
    return 0


def announce(listeners: Sequence[tuple[Listener, list[socket.socket]]]) -> None:
    """Say where the server listens, one line for each address."""
    for listener, sockets in listeners:
        kind = "lmtp" if listener.options.lmtp else "smtps" if listener.options.secure else "smtp"
        for sock in sockets:
            host, port = sock.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"listening on {shown}:{port} ({kind}, listener {listener.name})", flush=True)
