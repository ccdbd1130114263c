"""Counts of one invocation, written as CloudWatch's embedded metric format (EMF)."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import Any, Final

from functions.delivery.events import DeliveryEvents, Status

NAMESPACE: Final = "SmtpRelay"
SERVICE: Final = "smtp-relay"
"""The dimension of every metric; POWERTOOLS_SERVICE_NAME tells several stacks apart."""


class EmfObserver(DeliveryEvents):
    """Counts the events of deliveries, and writes its counts on request.

    Metrics: Delivered, Failed, Retries, DeadLetters, NoLogin, InDoubt, SpoolErrors, SesClosed, Finished,
    Sweeps; of a sweep OldestUnfinished (seconds), Unfinished, Dead.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._values: dict[str, tuple[str, float]] = {}
        self._metrics: Any = None

    def count(self, name: str) -> None:
        """Add one."""
        with self._lock:
            self._counts[name] += 1

    def spool_error(self) -> None:
        self.count("SpoolErrors")

    def output_done(self, flow: str, output: str, status: Status, seconds: float) -> None:
        self.count("Delivered" if status == "delivered" else "Failed")

    def retry(self, flow: str, output: str) -> None:
        self.count("Retries")

    def dead_letter(self, flow: str, output: str) -> None:
        self.count("DeadLetters")

    def no_login(self, flow: str, output: str) -> None:
        self.count("NoLogin")

    def in_doubt(self, flow: str, output: str) -> None:
        self.count("InDoubt")

    def backlog(self, oldest: float | None, unfinished: int, dead: int) -> None:
        with self._lock:
            self._counts["Sweeps"] += 1
            self._values["OldestUnfinished"] = ("Seconds", oldest or 0.0)
            self._values["Unfinished"] = ("Count", unfinished)
            self._values["Dead"] = ("Count", dead)

    def flush(self) -> None:
        """Write the counts since the last call."""
        with self._lock:
            counts, values = self._counts, self._values
            self._counts, self._values = Counter(), {}
        if not counts and not values:
            return
        if self._metrics is None:
            from aws_lambda_powertools.metrics import Metrics

            self._metrics = Metrics(
                namespace=NAMESPACE, service=os.environ.get("POWERTOOLS_SERVICE_NAME", SERVICE)
            )
        for name, value in counts.items():
            self._metrics.add_metric(name=name, unit="Count", value=value)
        for name, (unit, number) in values.items():
            self._metrics.add_metric(name=name, unit=unit, value=number)
        self._metrics.flush_metrics()
