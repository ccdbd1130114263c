"""Sweeps of a local spool: by the server that owns it, and one pass from outside (`smtp-relay sweep`)."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from functions.backends import Swept
from functions.config import DeliveryConfig
from functions.delivery.events import DeliveryEvents
from functions.errors import Temporary
from functions.local import layout
from functions.local.messages import Settings

log = logging.getLogger("smtp_relay.delivery")


PATIENCE: Final = 1_000.0
"""A count is repeated after so many times the time that it took, at the earliest."""


def sweep_once(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> Swept:
    """Count the folder's mails and make every waiting one due. The server that owns the folder sees
    that within a second; without a server, the next start delivers. Raises Temporary."""
    root = config.spool.folder(folder)
    now = time.time()
    oldest: float | None = None
    unfinished = dead = notified = 0
    try:
        for part in layout.parts(root):
            with part.visit() as db:
                count, received, records = layout.backlog(db)
                unfinished += count
                if received is not None:
                    oldest = max(oldest or 0.0, now - received / 1000)
                dead += records
                changed = db.execute(
                    "UPDATE mail SET next = ? WHERE parked IS NOT 1 AND next > ?", (layout.NOW, now)
                )
                notified += changed.rowcount
    except sqlite3.Error as error:
        raise Temporary(f"the spool cannot be read: {error}") from error
    return Swept(oldest, unfinished, dead, notified)


class Sweeper:
    """Sees the changes that other processes (`deadletter`, `sweep`) made in a part of the spool, and
    counts its mails and dead records after every change. Times are the event loop's, in seconds."""

    def __init__(self, part: layout.Part, observer: DeliveryEvents) -> None:
        self._part = part
        self._observer = observer
        self._version = 0
        self._next = 0.0
        self._changes = -1
        self._stale = True
        self._next_count = 0.0

    def forget(self) -> None:
        """The database was replaced: look at it the next time."""
        self._version = -1

    def look(self, db: sqlite3.Connection, now: float, settings: Settings) -> list[tuple[int, bool]]:
        """The mails that are due, and if an attempt was asked for, if the database changed or a sweep is
        due; else none."""
        version = db.execute("PRAGMA data_version").fetchone()[0]
        sweep = now >= self._next
        changed = version != self._version
        if changed or db.total_changes != self._changes:
            self._stale, self._changes = True, db.total_changes
        if sweep or (self._stale and now >= self._next_count):
            self._count(db, now, settings, tell=sweep)
        if not (changed or sweep):
            return []
        self._version = version
        return self._part.due(db, time.time(), settings.longest)

    def _count(self, db: sqlite3.Connection, now: float, settings: Settings, *, tell: bool) -> None:
        started = time.perf_counter()
        unfinished, oldest, dead = layout.backlog(db)
        age = max(0.0, time.time() - oldest / 1000) if oldest else None
        self._observer.backlog(age, unfinished, dead)
        self._stale = False
        # A count reads the whole table, and the event loop waits for it.
        self._next_count = now + min(settings.sweep, PATIENCE * (time.perf_counter() - started))
        if tell:
            self._next = now + settings.sweep
        if tell and (unfinished or dead):
            extra = {"unfinished": unfinished, "dead": dead, "oldest_seconds": round(age or 0.0)}
            log.info("sweep", extra=extra)
