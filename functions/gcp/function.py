"""The function's parts, and the handling of any request (docs/gcp.md)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from functions.bucket.memory_limit import Budget
from functions.bucket.notification import ForeignMessage
from functions.bucket.runner import Fate, Home, Run
from functions.bucket.sweep import WINDOW, sweep
from functions.config import DeliveryConfig
from functions.delivery.build import build_delivery
from functions.errors import DeliveryFault
from functions.gcp.notifications import GcsNotification, doorbell
from functions.gcp.receipts import GcsReceipts
from functions.gcp.spool import open_notifier, open_store
from functions.options.secrets import SecretResolver
from functions.processors.base import MIN_SECONDS_LEFT
from functions.processors.context import BuildContext

log: Final = logging.getLogger("smtp_relay.function")

TIMEOUT: Final = "SMTP_RELAY_TIMEOUT"
"""Environment variable with the seconds that a request may take, 300 by default: the function's own."""

MEMORY: Final = "SMTP_RELAY_MEMORY"
"""Environment variable with the instance's memory in MiB, 1024 by default."""

LAST_DELIVERY: Final = 5
"""From this delivery of a message on, a failing mail is left to the sweep: the dead-letter topic is for
notifications whose run crashed."""

LAST_RETURN: Final = 9
"""The same for mails that only a lack of time or room delayed; the subscription gives up after 10."""

ACKNOWLEDGED: Final = 204
LATER: Final = 503

_PATIENCE: Final = 60.0  # seconds that a request waits for room


class CloudRunFunction:
    """One process of the function. `clock` is Unix time in seconds."""

    def __init__(
        self, config: DeliveryConfig, environ: Mapping[str, str], *, clock: Callable[[], float] = time.time
    ) -> None:
        spool = config.spool
        self._bucket = spool.bucket
        self._clock = clock
        self._timeout = float(environ.get(TIMEOUT) or 300)
        self._budget = Budget(int(environ.get(MEMORY) or 1024) * 1_048_576)
        folder = Path.cwd()
        resolver = SecretResolver(folder, environ)
        store = open_store(spool, resolver)
        self.delivery = build_delivery(
            config, BuildContext(folder, durable=False, staging=None, resolve_secret=resolver)
        )
        receipts = GcsReceipts(
            store,
            spool.prefix,
            lasting=self._timeout,
            give_up_doubts=config.delivery.on_doubt == "dead-letter",
            clock=clock,
        )
        self.home = Home(
            store,
            spool.prefix,
            self.delivery,
            receipts,
            keep=config.keep_cache,
            clock=clock,
        )
        self._bell = open_notifier(spool, store, environ)
        self._swept = -1.0

    def handle(self, body: Any) -> tuple[int, dict[str, Any] | None]:
        """One request: a push, or `{"sweep": true}`. Returns the answer's status and, of a sweep, its
        counts."""
        started = time.monotonic()

        def seconds_left() -> float:
            return self._timeout - (time.monotonic() - started)

        if isinstance(body, Mapping) and body.get("sweep") is True:
            return self._sweep(seconds_left)
        try:
            bell = doorbell(body, self._bucket)
        except ForeignMessage as reason:
            log.warning("ignored a foreign event", extra={"reason": str(reason)})
            return ACKNOWLEDGED, None
        return self._answer(bell, self._run(bell, seconds_left)), None

    def _run(self, bell: GcsNotification, seconds_left: Callable[[], float]) -> Run:
        patience = min(_PATIENCE, seconds_left() - 2 * MIN_SECONDS_LEFT)
        with self._budget.room(bell.size, patience) as had:
            if not had:
                log.warning("no room for the mail yet", extra={"key": bell.key, "size": bell.size})
                return Run(Fate.LATER, cut_short=True)
            return self.home.run(
                bell.key, attempts=bell.attempt - 1, seconds_left=seconds_left, stored=bell.stored
            )

    def _answer(self, bell: GcsNotification, run: Run) -> int:
        """204 acknowledges the message, 503 makes it come again after the subscription's backoff."""
        if run.fate is Fate.FOREIGN:
            log.warning("ignored a foreign key", extra={"key": bell.key})
        if run.fate is not Fate.LATER:
            return ACKNOWLEDGED
        if bell.attempt >= (LAST_RETURN if run.cut_short else LAST_DELIVERY):
            log.warning("left to the sweep", extra={"key": bell.key, "attempt": bell.attempt})
            return ACKNOWLEDGED
        return LATER

    def _sweep(self, seconds_left: Callable[[], float]) -> tuple[int, dict[str, Any] | None]:
        now = self._clock()
        since = now - WINDOW if self._swept < 0 else min(self._swept, now - WINDOW)
        try:
            found = sweep(
                self.home.store, self.home.prefix, self._bell, now=now, since=since, seconds_left=seconds_left
            )
        except DeliveryFault as fault:
            log.error("the sweep failed", extra={"reason": fault.reason})
            return LATER, None
        self._swept = now
        # Metrics are made from this entry: an age of 0 means no mail.
        told = found._asdict() | {"oldest": round(found.oldest or 0.0, 3)}
        log.info("swept", extra=told)
        return 200, told
