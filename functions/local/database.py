"""The database of one part, as the event loop uses it: commits are immediate, and durable a moment
later.

Commits write to the log without fsync and take some ten microseconds. One fdatasync of the log, in
a thread, then makes all earlier commits durable: that is the group commit. A checkpoint copies the
log into the database with full syncs, so the log is never discarded before the database holds its
content.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from functions.local.layout import Part, lost_sync
from functions.processors.file.fsync import sync_data, sync_file, sync_folder

log = logging.getLogger("smtp_relay.delivery")

CHECKPOINT_EVERY: Final = 8_388_608
"""Bytes of log after which it is copied into the database."""

Synced = Callable[[OSError | None], object]


class Database:
    """One part's database. All methods belong to the thread that made it."""

    def __init__(self, part: Part, *, durable: bool) -> None:
        self._durable = durable
        self._part = part
        if durable:
            # This comes before the database is opened, because closing any descriptor of its file
            # releases the locks that SQLite holds on it in this process. The next `deadletter`
            # process would then take itself for the last user and remove the log.
            sync_file(part.database)
        self._kept = part.keep_log()
        self.db = part.open(patience=1.0)
        self.db.execute("PRAGMA synchronous = OFF")
        # The log exists from here on, and stays until the last connection closes.
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("PRAGMA user_version = 1")
        self.db.execute("COMMIT")
        self._log = os.open(part.log, os.O_RDONLY | os.O_CLOEXEC)
        self._queue: queue.SimpleQueue[Synced | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if durable:
            sync_folder(part.folder)
            for above in part.folder.parents[:2]:
                with contextlib.suppress(PermissionError):
                    sync_folder(above)
            self._thread = threading.Thread(target=self._run, name="spool-sync", daemon=True)
            self._thread.start()

    def commit(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run `work` in one transaction. Raises sqlite3.Error, with every change undone."""
        db = self.db
        try:
            db.execute("BEGIN IMMEDIATE")
            work(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def sync(self, then: Synced) -> None:
        """Make all commits so far durable, then call `then` with None or the error: in another thread
        if durability is configured, else at once."""
        if self._thread is None:
            then(None)
        else:
            self._queue.put(then)

    def checkpoint(self) -> None:
        """Copy the log into the database if it has grown. Call it while no sync is under way; the next
        commit then starts the log anew. Raises sqlite3.Error if a sync failed."""
        if os.fstat(self._log).st_size >= CHECKPOINT_EVERY and self._grown():
            self._take_over()

    def _take_over(self) -> None:
        if self._durable:
            self.db.execute("PRAGMA synchronous = FULL")
        try:
            self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            log.error("the spool's log could not be taken over", extra={"reason": str(error)})
            if lost_sync(error):
                self._part.trust.lose()
                raise
        finally:
            self.db.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        """Copy the log into the database, and close the database."""
        self._stop()
        try:
            # Closing does it too, but hides its errors.
            self._take_over()
        except sqlite3.Error:
            self.db.close()
        else:
            self.release()
            self.db.close()

    def abandon(self) -> None:
        """Close the database and leave its files unchanged. Other processes do not change them either
        until `release`."""
        self._stop()
        self.db.close()

    def release(self) -> None:
        """The files were rebuilt."""
        if self._kept >= 0:
            os.close(self._kept)
            self._kept = -1

    def _stop(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(10)
        os.close(self._log)

    def _grown(self) -> bool:
        """True if enough was committed since the last checkpoint. The log keeps its size when it starts
        anew, so its size alone does not show this."""
        changes = self.db.total_changes
        if changes - self._changes_at_checkpoint < _CHANGES:
            return False
        self._changes_at_checkpoint = changes
        return True

    _changes_at_checkpoint = -1_000_000

    def _run(self) -> None:
        while (then := self._queue.get()) is not None:
            error: OSError | None = None
            try:
                sync_data(self._log)
            except OSError as failure:
                error = failure
                # This is written at once, because the next process has to know even if this one
                # dies.
                self._part.trust.lose()
            then(error)


_CHANGES: Final = 1_000
"""Least number of rows changed between two checkpoints."""
