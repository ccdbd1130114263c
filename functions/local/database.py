"""The database of one part, as the event loop uses it: commits at once, durable a moment later.

Commits write to the log without fsync and take some ten microseconds. One fdatasync of the log,
in a thread, then makes everything committed so far durable: that is the group commit. The log is
copied into the database (checkpoint) with full syncs, so that it is never given up before the
database holds what it held.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from functions.local.layout import Part

log = logging.getLogger("smtp_relay.delivery")

CHECKPOINT_EVERY: Final = 8_388_608
"""Octets of log after which it is copied into the database."""

Synced = Callable[[OSError | None], object]


class Store:
    """One part's database. All methods belong to the thread that made it."""

    def __init__(self, part: Part, *, durable: bool) -> None:
        self._durable = durable
        if durable:
            # Before the database is opened: closing any descriptor of its file gives up the locks
            # that SQLite holds on it in this process, and the next `deadletter` beside us would
            # take itself for the last user and remove the log under our feet.
            sync_file(part.database)
        self.db = part.connect(patience=1.0)
        self.db.execute("PRAGMA synchronous = OFF")
        self.db.execute("PRAGMA wal_autocheckpoint = 0")
        # The log exists from here on, and stays until the last connection closes.
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("PRAGMA user_version = 1")
        self.db.execute("COMMIT")
        self._log = os.open(f"{part.database}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._queue: queue.SimpleQueue[Synced | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if durable:
            sync_folder(part.folder)
            self._thread = threading.Thread(target=self._run, name="spool-sync", daemon=True)
            self._thread.start()

    def commit(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run `work` in one transaction. Raises sqlite3.Error, with everything undone."""
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
        """Make all commits so far durable, then call `then` with None or the error: in another
        thread when durability is asked for, else at once."""
        if self._thread is None:
            then(None)
        else:
            self._queue.put(then)

    def checkpoint(self) -> None:
        """Copy the log into the database when it has grown. Call it when nothing is being synced;
        the next commit then starts the log anew."""
        if os.fstat(self._log).st_size < CHECKPOINT_EVERY or not self._grown():
            return
        if self._durable:
            self.db.execute("PRAGMA synchronous = FULL")
        try:
            self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            log.error("the spool's log could not be taken over", extra={"reason": str(error)})
        finally:
            self.db.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        """Stop the thread and close the database."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(10)
        if self._durable:
            self.db.execute("PRAGMA synchronous = FULL")
        self.db.close()
        os.close(self._log)

    def _grown(self) -> bool:
        """Whether enough was committed since the last checkpoint: the log keeps its size when it
        starts anew, so that its size alone does not tell."""
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
                os.fdatasync(self._log)
            except OSError as failure:
                error = failure
            then(error)


def sync_file(path: Path) -> None:
    """Make a new file durable, its name included. Raises OSError."""
    _sync(path, os.O_RDONLY)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_CHANGES: Final = 1_000
"""Rows changed between two checkpoints, at least."""
