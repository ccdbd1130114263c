"""Removes the oldest files of outputs with `retention`, in a thread of its own.

A file comes onto the list when its mail has left the spool durably, so no attempt writes it again. The
list is the only source of names: no folder is listed, and a file that is not as it was placed stays.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from functions.delivery.engine import Delivery, Outcome
from functions.local.messages import Write
from functions.local.retention.listing import NAME, FileList
from functions.local.retention.records import Record, Records, deletion, free, waiting
from functions.processors.base import FolderLimit
from functions.processors.file.owned import Look

log = logging.getLogger("smtp_relay.delivery")

GATHER: Final = 0.2
"""Seconds to wait for more files after the first one."""

SHARE: Final = 100
"""A round is followed by a pause of so many times its duration, so that rounds take at most one per cent
of a processor."""

PENDING: Final = 5.0
"""Seconds after which files are looked at again whose mails other outputs still need."""

TIME: Final = 600.0
"""Seconds between two records of the time that was measured."""

BATCH: Final = 500

Connect = Callable[[], sqlite3.Connection]


class Cleaner:
    """The retention of one part's outputs. All methods belong to the event loop."""

    def __init__(self, folder: Path, connect: Connect, put: Callable[[Write], None]) -> None:
        self._records = Records()
        self._work = _Work(folder, connect, put)
        self._thread: threading.Thread | None = None

    def use(self, delivery: Delivery) -> None:
        """Keep the limits of these outputs from now on."""
        limits = [each.processor.limit for outputs in delivery.flows.values() for each in outputs]
        self._work.limits = {limit.root: limit for limit in limits if limit is not None}
        self._work.changed.set()

    def opened(self, db: sqlite3.Connection) -> None:
        """The part's database was opened."""
        if self._records.open(db):
            # Rows of an earlier process are durable when the next commit is.
            self._work.put(Write("DELETE FROM placed_file WHERE n < 0", (), _nothing))
        if self._thread is None and (self._work.limits or (self._work.folder / NAME).exists()):
            self._start()

    def write(self, db: sqlite3.Connection, outcomes: Iterable[Outcome], seq: int = 0) -> None:
        """`Records.write`, if there are limits."""
        if self._work.limits:
            self._records.write(db, outcomes, seq)

    def synced(self) -> None:
        """Every row written so far is durable."""
        if self._work.durable != self._records.last:
            self._work.durable = self._records.last
            self._work.changed.set()
            if self._thread is None:
                self._start()

    def stop(self) -> None:
        """End the thread; the files that it has not looked at are looked at by the next server."""
        self._work.stopped.set()
        self._work.changed.set()
        if self._thread is not None:
            self._thread.join(5)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work.run, name="retention", daemon=True)
        self._thread.start()


class _Work:
    """What the thread does. The loop sets `limits` and `durable`, the number of the last row that counts,
    and then `changed`."""

    def __init__(self, folder: Path, connect: Connect, put: Callable[[Write], None]) -> None:
        self.folder = folder
        self.put = put
        self._connect = connect
        self.limits: Mapping[bytes, FolderLimit] = {}
        self.durable = 0
        self.changed = threading.Event()
        self.stopped = threading.Event()
        self._list: FileList | None = None
        self._known: Mapping[bytes, FolderLimit] = {}
        self._waiting = 0
        """Files whose mails have not left the spool."""
        self._failing = False
        self._told = False

    def run(self) -> None:
        """Rounds, until `stopped`."""
        while not self.stopped.is_set():
            self.changed.clear()
            started = time.thread_time()
            self._failing = False
            try:
                self._round()
            except sqlite3.Error as error:
                self._failed(error)
                self._reopen(error)
            except OSError as error:
                self._failed(error)
            except Exception:
                self._failing = True
                log.exception("fault in retention")
            self._told = self._told and self._failing
            self.stopped.wait(SHARE * (time.thread_time() - started))
            self.changed.wait(self._patience())
            self.stopped.wait(GATHER)
        if self._list is not None:
            with contextlib.suppress(sqlite3.Error):
                self._list.keep_time()
            self._list.close()

    def _patience(self) -> float | None:
        """Seconds until the next round without any change."""
        ages = [limit.age / 10 for limit in self.limits.values() if limit.age is not None]
        if self._failing or self._waiting:
            return PENDING
        return min(TIME, *ages) if ages else None

    def _round(self) -> None:
        if self._list is None:
            self._list = FileList(self.folder)
        limits = self.limits
        if limits is not self._known:
            self._list.forget_others(limits)
            self._known = limits
        self._take_over(self._list)
        self._list.keep_time()
        look = Look()
        try:
            for root, limit in limits.items():
                if limit.age is not None:
                    self._remove_old(self._list, look, root, limit.age)
                self._remove_excess(self._list, look, limit)
        finally:
            look.close()

    def _take_over(self, files: FileList) -> None:
        """Put the files whose mails have left the spool onto the list."""
        if not (until := self.durable):
            return
        with contextlib.closing(self._connect()) as db:
            while not self.stopped.is_set() and (found := free(db, until, BATCH)):
                files.add(one for one in found if one.file.root in self._known)
                self._write(deletion(found))
            self._waiting = 0 if self.stopped.is_set() else waiting(db, until)

    def _write(self, statement: str) -> None:
        """Write into the part's database, and wait for it. Raises the error, also after `stopped`."""
        done: list[Exception | None] = []
        ready = threading.Event()

        def written(error: Exception | None) -> None:
            done.append(error)
            ready.set()

        self.put(Write(statement, (), written))
        while not ready.wait(0.1):
            if self.stopped.is_set():
                raise sqlite3.OperationalError("the server is stopping")
        if done[0] is not None:
            raise done[0]

    def _remove_old(self, files: FileList, look: Look, root: bytes, age: float) -> None:
        while not self.stopped.is_set() and (old := files.older(root, age, BATCH)):
            latest = (time.time() - age) * 1e9
            # The file's own time is a witness, too; it cannot change without making it another file.
            ripe = [one for one in old if int(one.file.witness.split()[-1]) < latest]
            done = self._removed(look, ripe)
            files.remove(done)
            if len(ripe) < BATCH or not done:
                return

    def _remove_excess(self, files: FileList, look: Look, limit: FolderLimit) -> None:
        if not _exceeds(limit, *files.total(limit.root)):
            return
        # Files that other programs removed must not count, or others would go in their place.
        gone: list[int] = []
        for one in files.files(limit.root):
            if self.stopped.is_set():
                return
            if not self._is_there(look, one):
                gone.append(one.n)
        files.remove(gone)
        stuck: set[int] = set()
        while not self.stopped.is_set():
            going: list[Record] = []
            with files.unchanged():
                count, size = files.total(limit.root)
                for one in files.files(limit.root):
                    if len(going) == BATCH or not _exceeds(limit, count, size):
                        break
                    count, size = count - 1, size - one.file.size
                    if one.n not in stuck:
                        going.append(one)
            done = self._removed(look, going)
            files.remove(done)
            if len(going) < BATCH:
                return
            stuck |= {one.n for one in going} - set(done)

    def _is_there(self, look: Look, one: Record) -> bool:
        try:
            return look.is_there(one.file)
        except OSError as error:
            self._failed(error)
            return True

    def _removed(self, look: Look, files: Iterable[Record]) -> list[int]:
        """Remove files; returns the numbers of those that are gone."""
        done = []
        for one in files:
            if self.stopped.is_set():
                break
            try:
                look.remove(one.file)
            except OSError as error:
                self._failed(error)  # it stays, and the others go
            else:
                done.append(one.n)
        return done

    def _failed(self, error: Exception) -> None:
        """Log the first failure until a round has none; the next round tries again."""
        self._failing = True
        if not self._told and not self.stopped.is_set():
            self._told = True
            log.error("retention failed, will be tried again", extra={"reason": str(error)})

    def _reopen(self, error: sqlite3.Error) -> None:
        """Open the list anew for the next round. A damaged list is removed: the files of the past stay."""
        if self._list is not None:
            self._list.close()
            self._list = None
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            for ending in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    (self.folder / f"{NAME}{ending}").unlink()


def _exceeds(limit: FolderLimit, count: int, size: int) -> bool:
    return (limit.count is not None and count > limit.count) or (
        limit.bytes is not None and size > limit.bytes
    )


def _nothing(_: Exception | None) -> None:
    """A write that nothing waits for."""
