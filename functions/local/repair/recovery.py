"""The database of a part and its owner: opening, and rebuilding after a failed sync."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from functions.delivery.events import DeliveryEvents
from functions.local.database import Database
from functions.local.layout import Part
from functions.local.repair.rebuild import Condemn, Rebuilt, rebuild

log = logging.getLogger("smtp_relay.delivery")

FIRST: Final = 0.5
LONGEST: Final = 5.0
"""Seconds between two attempts to rebuild a part."""


class Recovery:
    """Holds the store. Between a failed sync and the end of the rebuilding there is no store, and
    `distrusted` is true. All methods belong to the event loop."""

    store: Database

    def __init__(
        self,
        part: Part,
        observer: DeliveryEvents,
        condemn: Condemn,
        opened: Callable[[], object],
        *,
        durable: bool,
    ) -> None:
        self._part = part
        self._observer = observer
        self._condemn = condemn
        self._opened = opened
        self._durable = durable
        self._loop: asyncio.AbstractEventLoop
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._old: Database | None = None
        self.distrusted = False
        self.epoch = 0
        """The number of failed syncs: data that was synced while one failed may not be durable."""

    def open(self) -> None:
        """Open the database, now or after it is rebuilt; `opened` is called then."""
        self._loop = asyncio.get_running_loop()
        if not self._part.trust.lost:
            try:
                self.store = Database(self._part, durable=self._durable)
            except (OSError, sqlite3.Error) as error:
                self._part.trust.lose()
                self.distrust(error)
            else:
                self._old = self.store
                self._opened()
                return
        else:
            self.distrust(OSError("it was before the start"))
        self.rebuild()

    def distrust(self, error: Exception) -> None:
        """A sync failed: the kernel may show data of the spool that is not on the disk."""
        self.distrusted = True
        self.epoch += 1
        log.error(
            "a sync of the spool failed: no mail is taken until it was written anew",
            extra={"reason": str(error)},
        )
        self._observer.spool_error()

    def rebuild(self) -> None:
        """Rebuild the part. No work may be under way in the store."""
        if self._old is not None:
            self._old.abandon()
        self._thread = threading.Thread(target=self._run, name="spool-rebuild", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the database, or stop rebuilding it."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(10)
        elif self._old is not None:
            self._old.close()

    def _run(self) -> None:
        wait = FIRST
        while not self._stopped.is_set():
            try:
                found = rebuild(self._part, self._condemn)
            except Exception as error:
                expected = isinstance(error, OSError | sqlite3.Error)
                extra = {"reason": str(error), "again_in": wait}
                log.error("the spool could not be written anew", exc_info=not expected, extra=extra)
                self._stopped.wait(wait)
                wait = min(2 * wait, LONGEST)
                continue
            with contextlib.suppress(RuntimeError):  # the loop has ended: the next start does it again
                self._loop.call_soon_threadsafe(self._rebuilt, found)
            return

    def _rebuilt(self, found: Rebuilt) -> None:
        self._thread = None
        if self._old is not None:
            self._old.release()
            self._old = None
        try:
            self._part.trust.regain()
        except OSError as error:
            self._part.trust.lose()
            self.distrust(error)
            self.rebuild()
            return
        self.distrusted = False
        extra = {"mails": found.mails, "damaged": len(found.condemned)}
        log.info("the spool was written anew", extra=extra)
        for record in found.condemned:
            self._observer.dead_letter(record.flow, record.output)
        self.open()
