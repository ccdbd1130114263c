"""The part of a function that all clouds' buckets share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from functions.backends import Swept
from functions.bucket.access import SpoolAccess
from functions.bucket.runner import BucketRunner
from functions.bucket.sweep import WINDOW, sweep
from functions.config import DeliveryConfig
from functions.delivery.build import build_delivery
from functions.delivery.events import DeliveryEvents
from functions.delivery.receipts import Receipts
from functions.processors.context import BuildContext

log: Final = logging.getLogger("smtp_relay.function")

LAST_ATTEMPT: Final = 5
"""From this delivery of a notification on, a failing mail is left to the sweep: the dead-letter queue
or topic is for notifications whose run crashed."""

LAST_RETURN: Final = 9
"""The same for mails that only a lack of time or room delayed; queue and subscription give up after 10."""


class BucketFunction:
    """One process of a function. `eager` builds the outputs now; `clock` is Unix time in seconds."""

    def __init__(
        self,
        config: DeliveryConfig,
        environ: Mapping[str, str],
        access: SpoolAccess,
        receipts: Receipts,
        *,
        observer: DeliveryEvents | None = None,
        eager: bool = False,
        clock: Callable[[], float],
    ) -> None:
        self._bucket = config.spool.bucket
        self._clock = clock
        self._notify = access.notify
        self._swept = -1.0
        context = BuildContext.of(Path.cwd(), environ, durable=False)
        self.delivery = build_delivery(config, context, eager=eager)
        keep = config.keep_cache
        self.runner = BucketRunner(
            access.store, access.prefix, self.delivery, receipts, keep=keep, observer=observer, clock=clock
        )

    def _look_through(self, seconds_left: Callable[[], float]) -> Swept:
        """One sweep. Raises DeliveryFault."""
        now, runner = self._clock(), self.runner
        since = now - WINDOW if self._swept < 0 else min(self._swept, now - WINDOW)
        found = sweep(
            runner.store, runner.prefix, self._notify, now=now, since=since, seconds_left=seconds_left
        )
        self._swept = now
        return found

    def _leaves(self, keys: object, attempt: int, *, cut_short: bool) -> bool:
        """True if unfinished mail is left to the sweep after this delivery of its notification, the
        first being 1."""
        if attempt < (LAST_RETURN if cut_short else LAST_ATTEMPT):
            return False
        log.warning("left to the sweep", extra={"key": keys, "attempt": attempt})
        return True
