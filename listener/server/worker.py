"""Runs the listener: one process or several, from start to drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from functions.errors import ConfigError
from functions.local.layout import Part, parts
from functions.local.service import LocalDelivery
from functions.options.secrets import Runtime
from listener.config.errors import locate_secret_errors
from listener.control.requests import requests
from listener.control.service import ControlService
from listener.intake.spool import LocalSpool, Spool
from listener.logs import setup as observe
from listener.monitoring.events import NULL, Events
from listener.monitoring.probes import expect
from listener.server import build
from listener.server import file_limit as descriptors
from listener.server.backlog import Backlogs
from listener.server.generation import Generation
from listener.server.sockets import Sockets, bind, close_all, listen
from listener.smtp.connection.dialogue import connection_of
from listener.smtp.connection.machine import Connection
from listener.smtp.connection_limits import Counters, LocalCounters

if TYPE_CHECKING:
    from functions.bucket.in_process import BucketDelivery
    from functions.delivery.engine import Delivery
    from functions.delivery.terms import Waits
    from listener.config.listeners import Listener
    from listener.config.relay import RelayConfig
    from listener.filters.respond.memory import ScriptMemory
    from listener.monitoring.failed_logins import ProcessFailures
    from listener.monitoring.heartbeat import WorkerHealth

log = logging.getLogger("smtp_relay.server")

TICK: Final = 1.0
BACKLOG: Final = 1024

Reload = Callable[[], "RelayConfig"]


@dataclass(slots=True)
class SharedParts:
    """The objects that the processes of one server share. `renew`, if set, is told of a configuration that
    is in force from now on."""

    counters: Counters = field(default_factory=LocalCounters)
    observer: Events = NULL
    worker_health: WorkerHealth | None = None
    failed_logins: ProcessFailures | None = None
    renew: Callable[[RelayConfig], None] | None = None
    control: socket.socket | None = None
    script: ScriptMemory | None = None
    """One process makes it when a configuration needs it first."""


class Server:
    """One serving process: its generations, its part of the spool, its clock."""

    def __init__(
        self,
        config: RelayConfig,
        around: Runtime,
        sockets: Sequence[tuple[Listener, Sockets]],
        *,
        index: int = 0,
        shared: SharedParts | None = None,
        reload: Reload | None = None,
    ) -> None:
        self._config = config
        self._around = around
        self._index = index
        self._shared = shared or SharedParts()
        self._reload = reload
        self._bound = {(one.bind, one.port): (one, found) for one, found in sockets}
        self._servers: dict[tuple[str, int], list[asyncio.Server]] = {}
        self._names: dict[tuple[str, int], str] = {}
        self._retired: list[Generation] = []
        self._deliveries: list[LocalDelivery] = []
        self._backlogs = Backlogs(self._shared.observer)
        self._bucket: BucketDelivery | None = None
        self.held_up = 0
        """The number of deliveries that did not end when the server stopped."""
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._current: Generation
        self._spool: Spool

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until asked to stop; returns after all present work is finished. Raises ConfigError if the
        configuration cannot be put to work."""
        loop = asyncio.get_running_loop()
        with locate_secret_errors(self._config):
            self._spool = self._open_spool()
            build.limit_captures(self._config, self._spool.captures, worker_count(self._config))
            self._current = self._make(self._config, loop)
            tell_script(self._shared.script, self._config)
            await self._current.start()
        # The signal handlers come before the listening, so a stop signal always drains.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        for address, (listener, sockets) in self._bound.items():
            await self._listen(address, listener.name, sockets)
        tasks = {loop.create_task(self._tick())}
        control = ControlService(requests(lambda: self._current.submission, self._reload, self._config))
        await control.start(self._shared.control)
        if self._reload is not None:
            loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(loop.create_task(self._read_again())))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        worker_health = self._shared.worker_health
        if worker_health is not None:
            tasks.add(loop.create_task(worker_health.run(self._spool.probe)))
            worker_health.accepting()
        # The collector need not look at start-up objects again.
        gc.freeze()
        ready()
        await self._stop.wait()
        if worker_health is not None:
            worker_health.draining()
        control.stop()
        await self._drain()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make(self, config: RelayConfig, loop: asyncio.AbstractEventLoop) -> Generation:
        shared = self._shared
        shared.script = shared.script or (new_script() if config.is_scripted else None)
        made = Generation(
            config, self._around, self._spool, shared.counters, shared.observer, loop, shared.script
        )
        for endpoint in made.endpoints.values():
            endpoint.login_failures.shared = shared.failed_logins
        return made

    async def _listen(self, address: tuple[str, int], name: str, sockets: Sockets) -> None:
        loop = asyncio.get_running_loop()
        self._names[address] = name

        def make() -> Connection:
            # The name is looked up for each connection, because after a reload it is another
            # endpoint.
            return connection_of(self._current.endpoints[self._names[address]])

        self._servers[address] = [
            await loop.create_server(make, sock=sock, backlog=BACKLOG) for sock in listen(sockets, BACKLOG)
        ]

    def _open_spool(self) -> Spool:
        config = self._config
        if config.spool.in_bucket:
            return self._open_bucket(config)
        folder = config.spool.folder(self._around.folder)
        part = Part(folder / f"part-{self._index}")
        local = self._deliver(part)
        if self._index == 0:
            workers = worker_count(config)
            for other in parts(folder):
                number = other.folder.name.removeprefix("part-")
                if number.isdecimal() and int(number) >= workers:
                    # A part of an earlier server with more workers: this one delivers its mails and
                    # adds none.
                    self._deliver(other)
        return LocalSpool(local, folder, part.large, build.min_free_space(config), self._deliveries)

    def _open_bucket(self, config: RelayConfig) -> Spool:
        observer = self._shared.observer
        if config.mode == "events":
            return build.open_bucket_spool(config, self._around, observer)
        self._bucket = build.deliver_bucket(config, self._around, observer)
        spool = build.open_bucket_spool(config, self._around, observer, self._bucket.notify)
        self._bucket.start(sweeps=self._index == 0)
        return spool

    def _deliver(self, part: Part) -> LocalDelivery:
        delivery = build.build_local(self._config, self._around, part, self._backlogs.part())
        if self._shared.worker_health is not None:
            delivery.health_changed = self._shared.worker_health.ask
        delivery.start()
        self._deliveries.append(delivery)
        return delivery

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._ticked(loop.time())
            except Exception:
                # Without this clock no time limit would ever end.
                log.exception("fault in the server's clock")
            await asyncio.sleep(TICK)

    async def _ticked(self, now: float) -> None:
        for generation in (self._current, *self._retired):
            generation.tick(now)
        for delivery in self._deliveries:
            delivery.tick()
        self._spool.captures.now = now
        self._spool.tick()
        for generation in [one for one in self._retired if one.idle]:
            self._retired.remove(generation)
            await generation.stop()

    # -- reload ------------------------------------------------------------------------------

    async def _read_again(self) -> None:
        """SIGHUP: use the new configuration as a whole, or not at all."""
        assert self._reload is not None
        try:
            async with self._reloading:
                config = await asyncio.to_thread(self._reload)
                with locate_secret_errors(config):
                    await self._replace(config)
        except ConfigError as mistake:
            log.error("the configuration was not used: %s", mistake)
        except Exception:
            log.exception("the configuration was not used")
        else:
            log.info("configuration read again", extra={"digest": config.digest})

    async def _replace(self, config: RelayConfig) -> None:
        for known in (self._current, *self._retired):
            known.forget()
        check_reload(self._config, config)
        # Clients are served meanwhile, because a secret store may be slow.
        generation = await asyncio.to_thread(self._make, config, asyncio.get_running_loop())
        fresh: dict[tuple[str, int], tuple[str, Sockets]] = {}
        try:
            await generation.start()
            deliveries, from_bucket = await asyncio.to_thread(
                other_outputs, config, self._around, self._deliveries, self._bucket
            )
            wanted = {(one.bind, one.port): one for one in config.resolved_listeners()}
            for address, listener in wanted.items():
                if address not in self._servers:
                    shared = worker_count(config) > 1
                    fresh[address] = (listener.name, listen(bind(*address, shared=shared), BACKLOG))
            if self._stop.is_set():
                raise ConfigError(config.source, "the server is stopping")
            # This is the last step that may fail, because nothing was changed until here.
            observe.configure(config.log_outputs, folder=self._around.folder, environ=self._around.environ)
        except BaseException:
            await generation.stop()
            close_all(sockets for _, sockets in fresh.values())
            raise
        expect(self._shared.observer, config)
        tell_script(self._shared.script, config)
        for delivery, made in zip(self._deliveries, deliveries, strict=True):
            delivery.replace(made, build.delivery_settings(config, self._around))
        if self._bucket is not None and from_bucket is not None:
            self._bucket.replace(*from_bucket)
        self._spool.min_free = build.min_free_space(config)
        build.limit_captures(config, self._spool.captures, worker_count(config))
        make_room(config)
        if worker_count(config) == 1:
            tell_what_waits(self._config, config)
        if self._shared.renew is not None:
            await asyncio.to_thread(self._shared.renew, config)
        self._retired.append(self._current)
        if not generation.same_rules(self._current):
            for old in self._retired:
                old.retire(config.flows)
        self._current.forget()
        self._current, self._config = generation, config
        self._names.update((address, listener.name) for address, listener in wanted.items())
        for address in [known for known in self._servers if known not in wanted]:
            for server in self._servers.pop(address):
                server.close()
        for address, (name, sockets) in fresh.items():
            await self._listen(address, name, sockets)

    # -- stopping ----------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Accept no more connections, let the mails that are being sent come in, then finish the spool."""
        log.info("draining")
        # A connection that the kernel has accepted would be reset with the socket, so take it up
        # first.
        for _ in range(2):
            await asyncio.sleep(0)
        for servers in self._servers.values():
            for server in servers:
                server.close()
        generations = (self._current, *self._retired)
        for generation in generations:
            generation.drain()
        patience = max(one.options.close_timeout for one in self._config.resolved_listeners()) / 1000
        deadline = time.monotonic() + patience
        while not all(one.idle for one in generations) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for generation in generations:
            generation.abort()
        for delivery in self._deliveries:
            self.held_up += await delivery.stop(max(1.0, deadline - time.monotonic()))
        if not self._deliveries:
            await self._spool.stop(max(1.0, deadline - time.monotonic()))
        if self._bucket is not None:
            self.held_up += await asyncio.to_thread(self._bucket.stop, max(1.0, deadline - time.monotonic()))
        for generation in generations:
            await generation.stop()
        if self.held_up:
            log.warning(
                "ending with deliveries under way: whether they take effect is in doubt",
                extra={"mails": self.held_up},
            )
        log.info("stopped")


def new_script() -> ScriptMemory:
    """Memory for scripted answers."""
    from listener.filters.respond.memory import ScriptMemory

    return ScriptMemory.new()


def tell_script(memory: ScriptMemory | None, config: RelayConfig) -> None:
    """Write the rules of a configuration to the memory of scripted answers."""
    if memory is not None and not config.is_scripted:
        memory.tell("")
    elif memory is not None:
        from listener.filters.respond.filter import tell_script

        tell_script(memory, {name: flow.filters for name, flow in config.flows.items()})


def other_outputs(
    config: RelayConfig, around: Runtime, deliveries: Sequence[LocalDelivery], bucket: BucketDelivery | None
) -> tuple[list[Delivery], tuple[Delivery, Waits] | None]:
    """The outputs of a new configuration, for each part of the spool and for a bucket."""
    made = [build.build_delivery(config, around, staging=one.staging) for one in deliveries]
    return made, None if bucket is None else build.build_from_bucket(config, around)


def make_room(config: RelayConfig) -> None:
    """Let this process and its children hold as many files as their clients may need."""
    limits = [one.options.max_clients for one in config.resolved_listeners()]
    descriptors.make_room(0 if None in limits else max(filter(None, limits)))


def check_reload(old: RelayConfig, new: RelayConfig) -> None:
    """Check that a running server can change to a configuration. Raises ConfigError."""
    if (new.spool, new.mode, worker_count(new)) != (old.spool, old.mode, worker_count(old)):
        raise ConfigError(
            new.source, "a new spool, delivery.mode or number of workers", "restart the server for it"
        )


def tell_what_waits(old: RelayConfig, new: RelayConfig) -> None:
    """Log the parts of a new configuration that have no effect yet."""
    if (new.prometheus, new.health) != (old.prometheus, old.health):
        log.warning("new settings of prometheus and health take effect when the server is restarted")


def worker_count(config: RelayConfig) -> int:
    """The number of serving processes."""
    return config.processes


def event_loop() -> Any:
    """A new event loop: uvloop's if it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def serve_process(server: Server, ready: Callable[[], None]) -> None:
    """Run one serving process to its end."""
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(server.run(ready))
