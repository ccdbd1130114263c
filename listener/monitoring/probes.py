"""Health and metrics of a server: the memory that workers write to, and the HTTP servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from functions.errors import ConfigError
from listener.monitoring.events import NULL, Events

if TYPE_CHECKING:
    from listener.config.relay import RelayConfig
    from listener.monitoring.health import HealthAt, MetricsAt
    from listener.monitoring.heartbeat import WorkerHealth


class Probes:
    """The parent makes it before it starts workers. Without `health` and `prometheus` it does nothing
    and imports nothing."""

    def __init__(self, config: RelayConfig, workers: int) -> None:
        self._health: HealthAt | None = None
        self._metrics: MetricsAt | None = None
        self._config = config
        if (at := config.health_endpoint) is not None:
            from listener.monitoring.health import HealthAt
            from listener.monitoring.heartbeat import HealthTable

            self._health_table = HealthTable(workers)
            self._health = HealthAt(at.bind, at.port, self._health_table.status)
        prometheus = config.prometheus
        if prometheus is not None and (at := config.metrics_endpoint) is not None:
            from listener.monitoring.board import SharedMetrics
            from listener.monitoring.exposition import Exposition
            from listener.monitoring.health import MetricsAt

            self._shared_metrics = SharedMetrics(workers)
            shown = Exposition(
                self._shared_metrics,
                prometheus.default_labels,
                process_metrics=prometheus.node_metrics,
                spool_folder=None if config.spool.in_bucket else config.spool.folder(Path()),
            )
            self._metrics = MetricsAt(at.bind, at.port, prometheus.url, shown)

    @property
    def any(self) -> bool:
        """True if there is anything to serve."""
        return self._health is not None or self._metrics is not None

    def observer(self, worker: int) -> Events:
        """The observer of one worker; called in that worker."""
        if self._metrics is None:
            return NULL
        from listener.monitoring.metrics import Metrics

        made = Metrics(self._shared_metrics, worker)
        expect(made, self._config)
        return made

    def expect(self, worker: int) -> None:
        """A worker is being started."""
        if self._health is not None:
            self._health_table.expect(worker)

    def worker_health(self, worker: int) -> WorkerHealth | None:
        """One worker's heartbeat."""
        return None if self._health is None else self._health_table.worker_health(worker)

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve while the block runs. Raises ConfigError when a port is not available."""
        if not self.any:
            yield
            return
        from listener.monitoring.health import probe_servers

        async with contextlib.AsyncExitStack() as stack:
            if (telling := self._telling()) is not None:
                stack.callback(asyncio.create_task(telling).cancel)
            for server in probe_servers(self._health, self._metrics):
                try:
                    await server.start()
                except OSError as error:
                    raise ConfigError(
                        "health or prometheus", f"cannot listen: {error.strerror}", "choose another port"
                    ) from error
                stack.push_async_callback(server.stop)
            yield

    def _telling(self) -> Coroutine[Any, Any, NoReturn] | None:
        health = self._config.health
        if self._health is None or health is None or health.log_interval is None:
            return None
        from listener.monitoring.health import tell

        return tell(self._health.status, health.log_interval / 1000)


def expect(observer: Events, config: RelayConfig) -> None:
    """Set every series of a configuration to 0 before its first event."""
    outputs = {name: [label for label, _ in flow.labelled()] for name, flow in config.flows.items()}
    observer.scripted(config.is_scripted)
    observer.expect([one.name for one in config.resolved_listeners()], outputs)
