"""Group commits of a local spool: all waiting messages go into one transaction and one sync.

After a failed sync messages wait, and new mails are deferred, until the database is rebuilt.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, TypeVar

from functions.delivery.engine import State, dead_record
from functions.delivery.events import DeliveryEvents
from functions.local import layout as folder
from functions.local.database import Database
from functions.local.layout import Part, lost_sync
from functions.local.messages import (
    DoneMail,
    Finished,
    Item,
    Owner,
    Progress,
    SpoolReply,
    Write,
    all_dead,
)
from functions.local.receipts import note_failures
from functions.local.repair.recovery import Recovery
from functions.local.retention.cleaner import Cleaner
from functions.message.mail import BytesContent, Mail
from functions.spool.dead_record import refused_records

log = logging.getLogger("smtp_relay.delivery")

T = TypeVar("T")

TIDY: Final = 0.02
"""Seconds that finished mails wait for a commit to join."""

CALM_TURNS: Final = 2
BUSY_TURNS: Final = 5
"""Turns of the event loop for which a commit waits for more mails: a turn takes microseconds, a commit
costs as much as two mails. The loop is busy if more than one came last time."""

AGAIN: Final = 1.0
"""Seconds before a failed write is repeated that no client waits for."""

UNWRITABLE: Final = SpoolReply(451, "4.3.0", "The mail could not be stored, try again later")
FULL: Final = SpoolReply(452, "4.3.1", "Insufficient system storage")


@dataclass(slots=True)
class _Batch:
    items: list[Item] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.items or self.finished or self.progress or self.writes)


class Commits:
    """Collects messages, and commits them in the next turn of the event loop, or after the current
    sync. All methods except `put` belong to the loop."""

    def __init__(self, owner: Owner, part: Part, observer: DeliveryEvents, *, durable: bool) -> None:
        self._owner = owner
        self._part = part
        self._observer = observer
        self._durable = durable
        self._loop: asyncio.AbstractEventLoop
        self._thread = 0
        self._batch = _Batch()
        self._seq = 0
        self._woken = False
        self._several = False
        self.syncing = False
        self._tidy: asyncio.TimerHandle | None = None
        self._healthy = True
        self._recovery = Recovery(part, observer, owner.condemn, self._opened, durable=durable)
        self.retention = Cleaner(part.folder.parent, part.connect, self.put)

    def start(self) -> None:
        """Open the database of a part that was created, now or after it is rebuilt."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._recovery.open()
        self._set_healthy(not self.distrusted)

    def _opened(self) -> None:
        self._seq = max(self._seq, self._part.last(self.store.db))
        self.retention.opened(self.store.db)
        self._owner.opened()
        self._set_healthy(True)
        if self._batch:
            self._wake()

    @property
    def store(self) -> Database:
        """The database; it is not available while it is distrusted."""
        return self._recovery.store

    @property
    def distrusted(self) -> bool:
        """True if a sync failed and the database is being rebuilt."""
        return self._recovery.distrusted

    @property
    def epoch(self) -> int:
        """The number of failed syncs: data that was synced while one failed may not be durable."""
        return self._recovery.epoch

    @property
    def healthy(self) -> bool:
        """True if the last commit worked."""
        return self._healthy

    def _set_healthy(self, healthy: bool) -> None:
        if healthy is not self._healthy:
            self._healthy = healthy
            self._owner.health_changed()

    @property
    def busy(self) -> bool:
        """True if messages are still to be written."""
        return bool(self._batch or self.syncing)

    def add(self, item: Item) -> None:
        """Store one mail."""
        if self.distrusted:
            item.discard()
            self._owner.rejected(item, UNWRITABLE)
            return
        self._batch.items.append(item)
        self._wake()

    def withdraw(self, item: Item) -> bool:
        """Take back a mail that no transaction holds yet; False if it is too late."""
        if item not in self._batch.items:
            return False
        self._batch.items.remove(item)
        return True

    def put(self, message: Finished | Progress | Write) -> None:
        """Write one message. May be called in any thread."""
        if threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop has ended: the spool keeps the mail
                self._loop.call_soon_threadsafe(self.put, message)
        elif isinstance(message, Finished):
            self._batch.finished.append(message)
            if self._tidy is None:
                self._tidy = self._loop.call_later(TIDY, self._tidied)
        else:
            if isinstance(message, Progress):
                self._batch.progress.append(message)
            elif self.distrusted and not message.insist:
                message.done(OSError("the spool is being written anew"))
            else:
                self._batch.writes.append(message)
            self._wake()

    def _tidied(self) -> None:
        # During a sync the loop is not woken, because the end of the sync looks for new messages.
        self._tidy = None
        self._wake()

    def close(self) -> None:
        """Close the database."""
        self.retention.stop()
        self._recovery.close()

    def distrust(self, error: Exception) -> None:
        """A sync failed. Accept nothing until the database is rebuilt."""
        if self.distrusted:
            return
        self._recovery.distrust(error)
        self._set_healthy(False)
        items, self._batch.items = self._batch.items, []
        for item in items:
            item.discard()
            self._owner.rejected(item, UNWRITABLE)
        if not self.syncing:
            self._recovery.rebuild()

    def _wake(self) -> None:
        if not self._woken and not self.syncing and not self.distrusted:
            self._woken = True
            self._wait(BUSY_TURNS if self._several else CALM_TURNS)

    def _wait(self, turns: int) -> None:
        if turns:
            self._loop.call_soon(self._wait, turns - 1)
        else:
            self._round()

    def _round(self) -> None:
        self._woken = False
        if self.distrusted:
            return
        if self._tidy is not None:
            self._tidy.cancel()
            self._tidy = None
        batch, self._batch = self._batch, _Batch()
        if not batch:
            return
        if batch.items:
            self._several = len(batch.items) > 1
        started = time.perf_counter()
        try:
            self.store.commit(lambda db: self._write(db, batch))
        except sqlite3.Error as error:
            self._failed(batch, error)
        except Exception as error:
            log.exception("fault in a commit of the spool")
            self._failed(batch, error)
        else:
            if self._durable:
                self.syncing = True
                self.store.sync(
                    lambda error: self._loop.call_soon_threadsafe(self._synced, batch, started, error)
                )
                # The disk works meanwhile.
                self._owner.written(batch.items)
            else:
                self._synced(batch, started, None)

    def _write(self, db: sqlite3.Connection, batch: _Batch) -> None:
        now = time.time()
        if batch.items:
            rows = []
            for item in batch.items:
                self._seq += 1
                item.seq = self._seq
                body = item.content.data if isinstance(item.content, BytesContent) else None
                rows.append((item.seq, item.envelope, body, now))
            folder.insert(db, rows)
            # Nothing else tells a later run that these are done.
            done = [(i.seq, o.task.key) for i in batch.items for o in i.tried if o.state is State.DONE]
            if done:
                db.executemany("INSERT INTO settled (seq, key, state) VALUES (?, ?, 'done')", done)
            for item in batch.items:
                if item.envelope.refused:
                    for record in refused_records(item.envelope):
                        folder.bury(db, record)
        if batch.finished:
            folder.delete(db, [done_mail.seq for done in batch.finished for done_mail in done.mails])
            traced = [done_mail.seq for done in batch.finished if done.traces for done_mail in done.mails]
            if traced:
                folder.delete_traces(db, traced)
            gone = (mail.outcomes for done in batch.finished for mail in done.mails)
            self.retention.write(db, chain.from_iterable(gone))
        for step in batch.progress:
            self._record(db, step, now)
        for write in batch.writes:
            db.execute(write.statement, write.values)

    def _record(self, db: sqlite3.Connection, step: Progress, now: float) -> None:
        # A client that still waits keeps its mail; a mail that was answered 250 belongs to the
        # spool.
        waiting = step.item is not None and not step.item.settled
        if not _is_there(db, step.seq):
            # The dead record was dropped, and the sync of that drop failed: this is the second
            # time.
            return
        if step.given_up is not None:
            folder.bury(db, step.given_up)
            values = (step.attempts, step.seq)
            db.execute("UPDATE mail SET parked = 1, attempts = ? WHERE seq = ?", values)
            return
        if step.mail is None or step.finished or (waiting and all_dead(step)):
            return
        settled = [(step.seq, o.task.key, o.state.value) for o in step.outcomes if o.state is not State.RETRY]
        db.executemany("INSERT OR REPLACE INTO settled (seq, key, state) VALUES (?, ?, ?)", settled)
        self.retention.write(db, step.outcomes, step.seq)
        for outcome in step.outcomes:
            if outcome.state is State.DEAD:
                folder.bury(db, dead_record(step.mail, outcome, step.attempts, now))
        note_failures(db, step, now)
        if step.parked and not _has_dead_output(db, step.seq):
            # The dead records were dropped during the run: the next run finds everything done.
            step.parked, step.attempts, step.wait = False, 0, 0.0
        db.execute(
            "UPDATE mail SET parked = ?, attempts = ?, next = ? WHERE seq = ?",
            (int(step.parked), step.attempts, now + step.wait, step.seq),
        )

    def _failed(self, batch: _Batch, error: Exception) -> None:
        """The clients keep their mails; all other messages are written again."""
        self._set_healthy(False)
        log.error("the spool cannot be written", extra={"reason": str(error), "mails": len(batch.items)})
        self._observer.spool_error()
        answer = FULL if "full" in str(error) else UNWRITABLE
        for item in batch.items:
            item.discard()
            self._owner.rejected(item, answer)
        self._repeat(batch, error)
        if isinstance(error, sqlite3.Error) and lost_sync(error):
            self._part.trust.lose()
            self.distrust(error)

    def _repeat(self, batch: _Batch, error: Exception) -> None:
        """Writing these again changes nothing."""
        for write in batch.writes:
            if not write.insist:
                write.done(error)
        self._batch.writes[:0] = [write for write in batch.writes if write.insist]
        self._batch.finished += batch.finished
        self._batch.progress += batch.progress
        if self._batch:
            self._loop.call_later(AGAIN, self._wake)

    def _synced(self, batch: _Batch, started: float, error: OSError | None) -> None:
        self.syncing = False
        if error is not None:
            self._sync_failed(batch, error)
            return
        self._set_healthy(not self.distrusted)
        self.retention.synced()
        for write in batch.writes:
            write.done(None)
        for done in batch.finished:
            for done_mail in done.mails:
                _safely(self._owner.removed, done_mail)
        for step in batch.progress:
            _safely(self._owner.recorded, step)
        if self.distrusted:
            # A body's sync failed meanwhile. Which body is unknown: the kernel reports it once.
            self._withdraw(batch.items)
            self._recovery.rebuild()
            return
        if batch.items:
            self._observer.spool_stored(time.perf_counter() - started)
            self._owner.stored(batch.items)
        if not self._woken:
            try:
                self.store.checkpoint()
            except sqlite3.Error as failure:
                self.distrust(failure)
        batch = self._batch
        if batch.items or batch.progress or batch.writes or (batch.finished and self._tidy is None):
            self._wake()

    def _sync_failed(self, batch: _Batch, error: OSError) -> None:
        """The rows are written and may not survive, so the mails are taken back out of the spool."""
        self._set_healthy(False)
        log.error("the spool cannot be synced", extra={"reason": str(error), "mails": len(batch.items)})
        self._withdraw(batch.items)
        self._repeat(batch, error)
        if self.distrusted:
            self._recovery.rebuild()
        else:
            self.distrust(error)

    def _withdraw(self, items: list[Item]) -> None:
        # This comes before the answers, because the spool must not deliver these mails after a
        # crash.
        self._part.trust.lose((item.envelope.id for item in items), durable=False)
        for item in items:
            self._owner.withdrawn(item.seq)
            self._batch.finished.append(Finished([DoneMail(item.seq, Mail(item.envelope, item.content), ())]))
            self._owner.rejected(item, UNWRITABLE)


def _is_there(db: sqlite3.Connection, seq: int) -> bool:
    return bool(db.execute("SELECT 1 FROM mail WHERE seq = ?", (seq,)).fetchone())


def _has_dead_output(db: sqlite3.Connection, seq: int) -> bool:
    """True if an output of a mail was given up, and its record was not dropped."""
    return bool(db.execute("SELECT 1 FROM settled WHERE seq = ? AND state = 'dead'", (seq,)).fetchone())


def _safely(step: Callable[[T], None], about: T) -> None:
    """One mail's error must not delay the answers to the others of its batch."""
    try:
        step(about)
    except Exception:
        log.exception("fault after a commit of the spool")
