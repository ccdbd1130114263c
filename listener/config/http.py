"""The addresses of health and metrics: `health` and `prometheus`."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from functions.options.types import DURATION, OptionsModel, Port

_PATH: Final = re.compile(r"^/[!-~]*$")
_LABEL: Final = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")
_HEALTH: Final = frozenset({"/healthz", "/readyz"})


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError(f"{text!r} is not a path (write one such as /metrics)")
    if text in _HEALTH:
        raise ValueError(f"{text!r} is a path of health (write another, such as /metrics)")
    return text


def _label(name: str) -> str:
    if not _LABEL.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be the name of a label (letters, digits and _, and no digit or __ first)"
        )
    return name


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

    url: Annotated[str, AfterValidator(_path)] = Field(
        default="/metrics", json_schema_extra={"pattern": _PATH.pattern}
    )
    """The path of the metrics."""

    node_metrics: bool = False
    """Add metrics of the processes: memory, processor time, open files."""

    default_labels: dict[Annotated[str, AfterValidator(_label)], str] = Field(default_factory=dict)
    """Labels added to every series."""
