"""Serves `/healthz`, `/readyz` and `/metrics` (docs/metrics.md).

Load balancers and autohealers act on `/healthz`. `/readyz` includes the spool, for alarms, because
restarting listeners does not fix a store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NoReturn, Protocol

from listener.monitoring.heartbeat import Health
from listener.monitoring.http import HttpResponse, ProbeServer, Route

log = logging.getLogger("smtp_relay.health")

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text exposition format."""


class Rendering(Protocol):
    """Renders `/metrics`, as `listener.monitoring.exposition.Exposition` does."""

    def render(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class HealthAt:
    """The address to serve health at, and its source."""

    bind: str
    port: int
    status: Callable[[], Health]


@dataclass(frozen=True, slots=True)
class MetricsAt:
    """The address and path to serve metrics at, and their source."""

    bind: str
    port: int
    url: str
    exposition: Rendering


def probe_servers(health: HealthAt | None, metrics: MetricsAt | None) -> list[ProbeServer]:
    """The servers to start: one if both have the same bind and port (not 0), else one for each."""
    if (
        health is not None
        and metrics is not None
        and health.port
        and (health.bind, health.port) == (metrics.bind, metrics.port)
    ):
        routes = health_routes(health.status) | {metrics.url: metrics_route(metrics.exposition)}
        return [ProbeServer(health.bind, health.port, routes)]
    servers = []
    if health is not None:
        servers.append(ProbeServer(health.bind, health.port, health_routes(health.status)))
    if metrics is not None:
        route = metrics_route(metrics.exposition)
        servers.append(ProbeServer(metrics.bind, metrics.port, {metrics.url: route}))
    return servers


def health_routes(status: Callable[[], Health]) -> dict[str, Route]:
    """The two health paths: 200 `ok`, or 503 with one reason a line."""

    def healthz() -> HttpResponse:
        health = status()
        return _say(health.alive, health.reasons)

    def readyz() -> HttpResponse:
        health = status()
        return _say(health.ready, health.reasons)

    return {"/healthz": healthz, "/readyz": readyz}


async def tell(status: Callable[[], Health], interval: float) -> NoReturn:
    """Log health every `interval` seconds, until cancelled. A platform that counts log entries, and has
    no probes, detects a dead listener by the missing entries."""
    while True:
        await asyncio.sleep(interval)
        health = status()
        log.info(
            "health",
            extra={
                "alive": health.alive,
                "ready": health.ready,
                "reasons": "; ".join(health.reasons) or None,
            },
        )


def metrics_route(exposition: Rendering) -> Route:
    """The scrape."""
    return lambda: HttpResponse(HTTPStatus.OK, exposition.render(), CONTENT_TYPE)


def _say(good: bool, reasons: tuple[str, ...]) -> HttpResponse:
    if good:
        return HttpResponse(HTTPStatus.OK, b"ok\n")
    return HttpResponse(HTTPStatus.SERVICE_UNAVAILABLE, "".join(f"{reason}\n" for reason in reasons).encode())
