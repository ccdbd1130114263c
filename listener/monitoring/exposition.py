"""The scrape: the sum of all workers' figures, in Prometheus' text format 0.0.4."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from functions import __version__
from functions.errors import ConfigError
from listener.monitoring.board import SharedMetrics
from listener.monitoring.families import FAMILIES, Family
from listener.monitoring.process import process_lines

LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

_DAY: Final = 86_400.0

_Totals = dict[Family, dict[tuple[str, ...], list[float]]]


class Exposition:
    """Renders a board. `default_labels` go on every sample without such a label; `process_metrics` adds
    the processes' CPU, memory and descriptors (`nodeMetrics`); `spool_folder` the room on its disk.

    Raises ConfigError for a default label with a name that Prometheus rejects.
    """

    def __init__(
        self,
        shared_metrics: SharedMetrics,
        default_labels: Mapping[str, str] | None = None,
        *,
        process_metrics: bool = False,
        spool_folder: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shared_metrics = shared_metrics
        self._default = dict(default_labels or {})
        for name in self._default:
            if not LABEL_NAME.fullmatch(name) or name.startswith("__"):
                raise ConfigError("prometheus.defaultLabels", f"{name!r} cannot be the name of a label")
        self._process_metrics = process_metrics
        self._spool_folder = spool_folder
        self._clock = clock

    def render(self) -> bytes:
        """The whole text. Rendering only reads and changes nothing."""
        lines = list(self._families(_merge(self._shared_metrics), self._clock()))
        info = self._labels(("version",), (__version__,))
        lost = sum(region.lost for region in self._shared_metrics.regions)
        lines += [
            "# HELP smtp_relay_build_info The running version",
            "# TYPE smtp_relay_build_info gauge",
            f"smtp_relay_build_info{info} 1",
            "# HELP smtp_relay_metrics_lost_series Series without room in the shared memory",
            "# TYPE smtp_relay_metrics_lost_series gauge",
            f"smtp_relay_metrics_lost_series{self._labels((), ())} {lost}",
        ]
        if self._spool_folder is not None:
            lines += self._room(self._spool_folder)
        if self._process_metrics:
            workers = [(region.index, region.pid) for region in self._shared_metrics.regions if region.pid]
            lines += process_lines(workers, lambda worker: self._labels(("worker",), (worker,)))
        return ("\n".join(lines) + "\n").encode("utf-8", "replace")

    def _room(self, folder: Path) -> Iterator[str]:
        try:
            room = os.statvfs(folder)
        except OSError:  # not made yet
            return
        free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
        for name, text, value in (
            ("smtp_relay_spool_free_bytes", "Room for more on the disk of the spool", free),
            ("smtp_relay_spool_size_bytes", "Size of the disk of the spool", size),
        ):
            yield from (
                f"# HELP {name} {text}",
                f"# TYPE {name} gauge",
                f"{name}{self._labels((), ())} {value}",
            )

    def _families(self, totals: _Totals, now: float) -> Iterator[str]:
        for family in FAMILIES:
            series = totals.get(family)
            if not series:
                continue
            yield f"# HELP {family.name} {family.help}"
            yield f"# TYPE {family.name} {family.kind}"
            for labels in sorted(series):
                if family.kind == "histogram":
                    yield from self._histogram(family, labels, series[labels])
                elif (value := _shown(family, series[labels][0], now)) is not None:
                    yield f"{family.name}{self._labels(family.labels, labels)} {number(value)}"

    def _histogram(self, family: Family, labels: tuple[str, ...], values: list[float]) -> Iterator[str]:
        name, names = family.name, (*family.labels, "le")
        total = 0.0
        for bound, count in zip((*family.buckets, float("inf")), values, strict=False):
            total += count
            yield f"{name}_bucket{self._labels(names, (*labels, number(bound)))} {number(total)}"
        plain = self._labels(family.labels, labels)
        yield f"{name}_sum{plain} {number(values[-1])}"
        yield f"{name}_count{plain} {number(total)}"

    def _labels(self, names: tuple[str, ...], values: tuple[str, ...]) -> str:
        labels = self._default | dict(zip(names, values, strict=True))
        if not labels:
            return ""
        return "{" + ",".join([f'{name}="{escape(value)}"' for name, value in labels.items()]) + "}"


def _merge(shared_metrics: SharedMetrics) -> _Totals:
    totals: _Totals = {}
    for region in shared_metrics.regions:
        for family, labels, start in region.series():
            values = list(region.values[start : start + family.width])
            series = totals.setdefault(family, {})
            old = series.get(labels)
            series[labels] = values if old is None else _join(family, old, values)
    return totals


def _join(family: Family, old: list[float], new: list[float]) -> list[float]:
    if family.merge == "sum":
        return [a + b for a, b in zip(old, new, strict=True)]
    given = [value for value in old + new if value or not family.clock]
    choose = min if family.merge == "min" else max
    return [choose(given, default=0.0)]


def _shown(family: Family, value: float, now: float) -> float | None:
    """The sample to show, if any."""
    if family.clock == "age":
        return max(0.0, now - value) if value else 0.0
    if family.clock == "days_left":
        return (value - now) / _DAY if value else None
    return value


def number(value: float) -> str:
    """A sample value or bucket bound as text."""
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)


def escape(value: str) -> str:
    """A label value, escaped for double quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
