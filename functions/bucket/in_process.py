"""In-process delivery out of a bucket: the work of events, queue and function, in one process.

The bucket stays the record of unfinished mails, and the receipts are those of the cloud's function.
A process that ends, or runs beside others on the same spool, loses nothing and repeats nothing.
"""

from __future__ import annotations

import heapq
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

from functions.backends import open_spool
from functions.bucket.marks import spooled_id
from functions.bucket.runner import BucketRunner, RunResult
from functions.bucket.sweep import PERIOD, WINDOW, sweep
from functions.config import DeliveryConfig
from functions.delivery.engine import Delivery, backoff
from functions.delivery.events import DeliveryEvents
from functions.delivery.terms import Waits
from functions.errors import DeliveryFault

log: Final = logging.getLogger("smtp_relay.delivery")

RUN: Final = 300.0
"""Seconds that a run over one mail may take; effects begin within them."""

_MOST: Final = 100_000  # most notifications in memory; further mails are left to the sweep


def open_runner(
    config: DeliveryConfig,
    delivery: Delivery,
    folder: Path,
    environ: Mapping[str, str],
    observer: DeliveryEvents,
) -> BucketRunner:
    """The bucket of the configuration's spool, with its cloud's receipts. Raises ConfigError."""
    access = open_spool(config, folder, environ)
    receipts = access.receipts(observer, RUN)
    return BucketRunner(
        access.store, access.prefix, delivery, receipts, keep=config.keep_cache, observer=observer
    )


class BucketDelivery:
    """Runs the outputs of one spool's mails in threads of its own. `clock` is Unix time in seconds;
    `threads` are the runs at a time, each of which holds its mail in memory."""

    def __init__(
        self,
        runner: BucketRunner,
        waits: Waits | None = None,
        observer: DeliveryEvents | None = None,
        *,
        clock: Callable[[], float] = time.time,
        threads: int = 4,
    ) -> None:
        self._runner = runner
        self.waits = waits or Waits()
        self._observer = observer or DeliveryEvents()
        self._clock = clock
        self._changed = threading.Condition()
        self._due: list[tuple[float, str, int]] = []
        self._held: set[str] = set()
        """Keys that wait or run."""
        self._running = 0
        self._threads = threads
        self._next_sweep = math.inf
        self._swept = -math.inf
        self._stopping = False
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bucket-run")
        self._thread = threading.Thread(target=self._loop, name="bucket-delivery", daemon=True)

    def start(self, *, sweeps: bool = True) -> None:
        """Take up the mails in the spool, now and every five minutes. Without `sweeps` another process
        does that."""
        if sweeps:
            self._next_sweep = 0.0
        self._thread.start()

    def notify(self, keys: Iterable[str]) -> None:
        """Deliver the mails under these keys, which were stored just now. May be called in any thread."""
        self._notify(keys, 0)

    def replace(self, delivery: Delivery, waits: Waits) -> None:
        """Use other outputs. Runs under way end with the outputs that they began with."""
        self._runner.replace(delivery)
        self.waits = waits

    def stop(self, timeout: float) -> int:
        """Wait for the runs under way; unfinished mails stay in the bucket. Returns how many runs are
        still held up in their threads."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._running, timeout)
        self._runner.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._running, max(1.0, deadline - time.monotonic()))
            left = self._running
        self._pool.shutdown(wait=False, cancel_futures=True)
        return left

    def _add(self, when: float, key: str, attempts: int) -> bool:
        """False if there is no room for one more."""
        if key in self._held or self._stopping:
            return True
        if len(self._held) >= _MOST:
            return False
        self._held.add(key)
        heapq.heappush(self._due, (when, key, attempts))
        return True

    def _loop(self) -> None:
        while True:
            with self._changed:
                job = self._next()
                while job is None:
                    if self._stopping:
                        return
                    self._changed.wait(self._patience())
                    job = self._next()
                self._running += 1
            self._pool.submit(self._guarded, job)

    def _next(self) -> Callable[[], None] | None:
        """The mails that can be run now."""
        if self._stopping or self._running >= self._threads:
            return None
        now = time.monotonic()
        if self._next_sweep <= now:
            self._next_sweep = now + PERIOD
            return self._sweep
        if self._due and self._due[0][0] <= now:
            _, key, attempts = heapq.heappop(self._due)
            return lambda: self._run(key, attempts)
        return None

    def _patience(self) -> float | None:
        """Seconds until there may be a mail to run."""
        if self._running >= self._threads:
            return None
        first = min(self._next_sweep, self._due[0][0] if self._due else math.inf)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            log.exception("fault in a delivery")
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _run(self, key: str, attempts: int) -> None:
        again: float | None = self.waits.first
        try:
            again = self._attempt(key, attempts)
        finally:
            with self._changed:
                self._held.discard(key)
                if again is not None:
                    self._add(time.monotonic() + again, key, attempts + 1)

    def _attempt(self, key: str, attempts: int) -> float | None:
        """One run; returns the seconds until the next one, None if no run is needed."""
        end = time.monotonic() + RUN
        run = self._runner.run(
            key,
            attempts=attempts,
            seconds_left=lambda: end - time.monotonic(),
            stored=attempts == 0,
            waits=self.waits,
        )
        if run.result is not RunResult.LATER:
            return None
        if run.cut_short:
            return 0.0
        own = backoff(attempts + 1, first=self.waits.first, longest=self.waits.longest)
        return max(own, run.retry_after or 0.0) if run.wait is None else run.wait

    def _take_up(self) -> None:
        """Make every waiting mail due, because a start is a good moment for an attempt. An earlier
        process may have ended between a claim and its receipt, so these are not first attempts."""
        runner = self._runner
        keys = (found.key for found in runner.store.list(f"{runner.prefix}spool/"))
        ours = (key for key in keys if spooled_id(key, runner.prefix) is not None)
        # A list, because the store is asked before the lock is taken.
        self._notify_again(list(islice(ours, _MOST)))

    def _notify_again(self, keys: Iterable[str]) -> None:
        self._notify(keys, 1)

    def _notify(self, keys: Iterable[str], attempts: int) -> None:
        with self._changed:
            left = sum([not self._add(0.0, key, attempts) for key in keys])
            self._changed.notify_all()
        if left:
            log.warning("left to the sweep", extra={"mails": left})

    def _sweep(self) -> None:
        now = self._clock()
        runner = self._runner
        try:
            if self._swept == -math.inf:
                self._take_up()
            since = min(self._swept, now - WINDOW)
            found = sweep(
                runner.store,
                runner.prefix,
                self._notify_again,
                now=now,
                since=since,
                seconds_left=lambda: math.inf,
            )
        except DeliveryFault as fault:
            log.error("the sweep failed", extra={"reason": fault.reason})
            return
        self._swept = now
        self._observer.backlog(found.oldest, found.unfinished, found.dead)
        if found.unfinished or found.dead:
            log.info("swept", extra=found._asdict())
