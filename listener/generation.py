"""What a configuration comes to in one process: filters, flows and a port per listener.

A reload makes a new generation beside the old one, which serves the connections it has to their
end.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from listener import build
from listener.build import Filters, Surroundings
from listener.gate import Counters, Gate
from listener.intake import Intake
from listener.port import Port

if TYPE_CHECKING:
    from listener.config import Listener, RelayConfig
    from listener.observer import Observer
    from listener.spool import Spool


class Generation:
    """One configuration at work. Raises ConfigError when it cannot be carried out."""

    def __init__(
        self,
        config: RelayConfig,
        around: Surroundings,
        spool: Spool,
        counters: Counters,
        observer: Observer,
    ) -> None:
        self.config = config
        self._spool = spool
        self._counters = counters
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._filters = Filters(config, around)
        self.ports = {listener.name: self._port(listener) for listener in config.resolved_listeners()}

    async def start(self) -> None:
        """Start the filters."""
        await self._filters.start()

    async def stop(self) -> None:
        """Stop the filters."""
        await self._filters.stop()

    @property
    def idle(self) -> bool:
        """Whether no connection of this generation is left."""
        return not any(port.connections for port in self.ports.values())

    def tick(self, now: float) -> None:
        """Called each second."""
        for port in self.ports.values():
            port.tick(now)

    def drain(self) -> None:
        """End what is idle, let mails being sent come in."""
        for port in self.ports.values():
            port.drain()

    def abort(self) -> None:
        """End every connection now."""
        for port in self.ports.values():
            for connection in list(port.connections):
                connection.transport.abort()

    def _port(self, listener: Listener) -> Port:
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
        gate = Gate(self._counters, options.max_clients or 0, options.max_clients_per_ip or 0)
        return Port(
            listener,
            self._filters.flows(options, self._observer),
            intake,
            self._spool,
            gate,
            hostname=hostname,
            loop=self._loop,
            observer=self._observer,
            log_addresses=config.logs_addresses,
        )
