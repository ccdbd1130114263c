"""`/healthz`, `/readyz` and `/metrics`: what is served, and on which ports (SPEC section 2).

`/healthz` is the one that a load balancer or an autohealer may act on. `/readyz` tells of the
spool as well, for alarms: restarting listeners does not mend a store.
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
    """What `/metrics` shows; `listener.monitoring.exposition.Exposition` is one."""

    def render(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class HealthAt:
    """Where health is served, and who tells it."""

    bind: str
    port: int
    look: Callable[[], Health]


@dataclass(frozen=True, slots=True)
class MetricsAt:
    """Where metrics are served, under which path, and who tells them."""

    bind: str
    port: int
    url: str
    exposition: Rendering


def probe_servers(health: HealthAt | None, metrics: MetricsAt | None) -> list[ProbeServer]:
    """The servers to start: one when both stand at the same bind and port (not 0), else one each."""
    if (
        health is not None
        and metrics is not None
        and health.port
        and (health.bind, health.port) == (metrics.bind, metrics.port)
    ):
        routes = health_routes(health.look) | {metrics.url: metrics_route(metrics.exposition)}
        return [ProbeServer(health.bind, health.port, routes)]
    servers = []
    if health is not None:
        servers.append(ProbeServer(health.bind, health.port, health_routes(health.look)))
    if metrics is not None:
        route = metrics_route(metrics.exposition)
        servers.append(ProbeServer(metrics.bind, metrics.port, {metrics.url: route}))
    return servers


def health_routes(look: Callable[[], Health]) -> dict[str, Route]:
    """The two health paths: 200 `ok`, or 503 and what is amiss, one reason a line."""

    def healthz() -> HttpResponse:
        health = look()
        return _say(health.alive, health.reasons)

    def readyz() -> HttpResponse:
        health = look()
        return _say(health.ready, health.reasons)

    return {"/healthz": healthz, "/readyz": readyz}


async def tell(look: Callable[[], Health], interval: float) -> NoReturn:
    """Log health every `interval` seconds, until cancelled: where a platform counts log entries and
    knows nothing of probes, what is missing tells of the dead."""
    while True:
        await asyncio.sleep(interval)
        health = look()
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
