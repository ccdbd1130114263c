"""The addresses of health and metrics: `health` and `prometheus`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from functions.options.types import DURATION, OptionsModel, Port


class HealthOptions(OptionsModel):
    """Serve `/healthz` and `/readyz`."""

    port_number: Port
    """The port. It may be the one of `prometheus`."""

    bind: str | None = None
    """The address."""

    log_interval: Annotated[int, Field(ge=1000), DURATION] | None = None
    """Time between log lines about health. Default: no such lines."""


class PrometheusOptions(OptionsModel):
    """Serve metrics."""

    port_number: Port
    """The port."""

    bind: str | None = None
    """The address."""

    url: str = Field(default="/metrics", pattern=r"^/[!-~]*$")
    """The path of the metrics."""

    node_metrics: bool = False
    """Add metrics of the processes: memory, processor time, open files."""

    default_labels: dict[str, str] = Field(default_factory=dict)
    """Labels added to every series."""
