"""The function's parts, and the handling of any request (docs/gcp.md)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from functions.bucket.access import ForeignMessage
from functions.bucket.function import BucketFunction
from functions.bucket.memory_limit import MemoryLimit
from functions.bucket.runner import Run, RunResult
from functions.config import DeliveryConfig
from functions.delivery.events import DeliveryEvents
from functions.errors import DeliveryFault
from functions.gcp.notifications import GcsNotification, read_notification
from functions.gcp.spool import open_spool
from functions.options.environment import variable
from functions.processors.base import MIN_SECONDS_LEFT

log: Final = logging.getLogger("smtp_relay.function")

TIMEOUT: Final = "SMTP_RELAY_TIMEOUT"
"""Environment variable with the seconds that a request may take, 300 by default: the function's own."""

MEMORY: Final = "SMTP_RELAY_MEMORY"
"""Environment variable with the instance's memory in MiB, 1024 by default."""

ACKNOWLEDGED: Final = 204
LATER: Final = 503

_PATIENCE: Final = 60.0  # seconds that a request waits for room


class CloudRunFunction(BucketFunction):
    """One process of the function. `clock` is Unix time in seconds."""

    def __init__(
        self, config: DeliveryConfig, environ: Mapping[str, str], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._timeout = float(variable(environ, TIMEOUT) or 300)
        self._budget = MemoryLimit(int(variable(environ, MEMORY) or 1024) * 1_048_576)
        access = open_spool(config, Path.cwd(), environ, clock=clock)
        receipts = access.receipts(DeliveryEvents(), self._timeout)
        super().__init__(config, environ, access, receipts, clock=clock)

    def handle(self, body: Any) -> tuple[int, dict[str, Any] | None]:
        """One request: a push, or `{"sweep": true}`. Returns the answer's status and, of a sweep, its
        counts."""
        started = time.monotonic()

        def seconds_left() -> float:
            return self._timeout - (time.monotonic() - started)

        if isinstance(body, Mapping) and body.get("sweep") is True:
            return self._sweep(seconds_left)
        try:
            notification = read_notification(body, self._bucket)
        except ForeignMessage as reason:
            log.warning("ignored a foreign event", extra={"reason": str(reason)})
            return ACKNOWLEDGED, None
        return self._answer(notification, self._run(notification, seconds_left)), None

    def _run(self, notification: GcsNotification, seconds_left: Callable[[], float]) -> Run:
        patience = min(_PATIENCE, seconds_left() - 2 * MIN_SECONDS_LEFT)
        with self._budget.room(notification.size, patience) as had:
            if not had:
                log.warning(
                    "no room for the mail yet", extra={"key": notification.key, "size": notification.size}
                )
                return Run(RunResult.LATER, cut_short=True)
            return self.runner.run(
                notification.key,
                attempts=notification.attempt - 1,
                seconds_left=seconds_left,
                stored=notification.stored,
            )

    def _answer(self, notification: GcsNotification, run: Run) -> int:
        """204 acknowledges the message, 503 makes it come again after the subscription's backoff."""
        if run.result is RunResult.FOREIGN:
            log.warning("ignored a foreign key", extra={"key": notification.key})
        if run.result is not RunResult.LATER:
            return ACKNOWLEDGED
        left = self._leaves(notification.key, notification.attempt, cut_short=run.cut_short)
        return ACKNOWLEDGED if left else LATER

    def _sweep(self, seconds_left: Callable[[], float]) -> tuple[int, dict[str, Any] | None]:
        try:
            found = self._look_through(seconds_left)
        except DeliveryFault as fault:
            log.error("the sweep failed", extra={"reason": fault.reason})
            return LATER, None
        # Metrics are made from this entry: an age of 0 means no mail.
        told = found._asdict() | {"oldest": round(found.oldest or 0.0, 3)}
        log.info("swept", extra=told)
        return 200, told
