"""In-process delivery: the local spool and what it delivers, driven by the event loop (SPEC §6).

All mails that come in during one turn of the loop, or during one fsync, are committed together;
then the `quick` outputs (file, log) of each run in the loop and the clients are answered. What is
done is removed with the next commit. Other outputs, and every further attempt, run in a small pool;
their receipts go through the same commits. docs/adr/local-spool.md has the figures behind this order.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import heapq
import logging
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from functions import folder
from functions.delivery import Delivery, Outcome, Owed, State, backoff, dead_record
from functions.errors import Temporary
from functions.folder import Part
from functions.local_flush import Flusher
from functions.local_messages import (
    Answer,
    Finished,
    Item,
    Landing,
    Progress,
    Settings,
    Write,
    accepted,
    all_dead,
    refused,
)
from functions.local_receipts import Receipts
from functions.local_runs import Runs
from functions.local_store import Store, sync_file
from functions.mail import BytesContent, Mail
from functions.observer import NullObserver, Observer

log = logging.getLogger("smtp_relay.delivery")

LOOK: Final = 1.0
"""Seconds between looks at what another process (deadletter) changed."""

TIDY: Final = 0.02
"""Seconds that finished mails wait for a commit to go along with."""

SLOW: Final = 0.1
"""Seconds after which a quick output counts as slow: it then runs in the pool for a while, so that
a hanging folder does not hold up the event loop."""

SLOW_FOR: Final = 60.0

FLUSHES: Final = 4
"""Large bodies made durable at once."""

UNWRITABLE: Final = Answer(451, "4.3.0", "The mail could not be stored, try again later")
FULL: Final = Answer(452, "4.3.1", "Insufficient system storage")
LATE: Final = Answer(451, "4.3.0", "The mail could not be stored in time, try again later")


class LocalDelivery:
    """Owns one part of the local spool and delivers what is in it.

    Everything runs in the event loop that called `start`, but for the pool's runs and the syncs.
    """

    def __init__(
        self, part: Part, delivery: Delivery, settings: Settings, observer: Observer | None = None
    ) -> None:
        self._part = part
        self._delivery = delivery
        self._settings = settings
        self._observer = observer or NullObserver()
        self._loop: asyncio.AbstractEventLoop
        self._thread = 0
        self._store: Store
        self._flusher: Flusher | None = None
        self._runs = Runs(part, delivery, self._attempt, self._put, durable=settings.durable)
        self._flushing = ThreadPoolExecutor(FLUSHES, thread_name_prefix="spool-body")
        self._items: list[Item] = []
        self._finished: list[Finished] = []
        self._progress: list[Progress] = []
        self._writes: list[Write] = []
        self._unanswered: dict[str, Item] = {}
        self._finishing: set[int] = set()
        self._retries: list[tuple[float, int]] = []
        self._scheduled: dict[int, float] = {}
        self._slow_until: dict[int, float] = {}
        self._seq = 0
        self._woken = False
        self._syncing = False
        self._tidy: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._data_version = 0
        self._next_sweep = 0.0
        self._stopping = False
        self.healthy = True
        """Whether the last commit worked; `/readyz` asks."""

    def start(self) -> None:
        """Open the part and schedule what a crash left. Raises ConfigError."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._part.create()
        self._store = Store(self._part, durable=self._settings.durable)
        if self._settings.durable:
            self._flusher = Flusher(self._put)
        db = self._store.db
        orphans = self._part.remove_orphans(db)
        left = self._part.waiting(db)
        self._seq = self._part.last(db)
        if left or orphans:
            log.info("taking up the spool", extra={"unfinished": len(left), "orphans": orphans})
        for _, seq in left:
            # Whatever its next attempt was, a restart is a good moment for one.
            self._schedule(seq, 0.0)
        self._start_due()

    def submit(self, item: Item) -> None:
        """Store and deliver one mail; `item.answered` is called once, in the event loop."""
        self._unanswered[item.envelope.id] = item
        if item.content.path is not None and self._settings.durable:
            # The row must not be there before its body is.
            flushed = self._loop.run_in_executor(self._flushing, sync_file, item.content.path)
            flushed.add_done_callback(partial(self._body_flushed, item))
        else:
            self._items.append(item)
            self._wake()

    def _body_flushed(self, item: Item, flushed: asyncio.Future[None]) -> None:
        error = flushed.exception()
        if error is not None or item.cancelled:
            if error is not None:
                log.error(
                    "a mail could not be made durable", extra={"id": item.envelope.id, "reason": str(error)}
                )
                self._observer.spool_error()
            item.discard()
            self._answer(item, UNWRITABLE)
            return
        self._items.append(item)
        self._wake()

    def replace(self, delivery: Delivery, settings: Settings) -> None:
        """Go on with other outputs and patience; durability stays as it is. Runs under way end
        with what they began with."""
        self._delivery = delivery
        self._settings = dataclasses.replace(settings, durable=self._settings.durable)
        self._runs.replace(delivery)

    async def stop(self, timeout: float = 30.0) -> None:
        """Finish what is in hand and stop; what is not finished stays in the spool."""
        self._stopping = True
        deadline = self._loop.time() + timeout
        while self._busy() and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        if self._alarm is not None:
            self._alarm.cancel()
        await self._loop.run_in_executor(None, self._runs.stop)
        if self._flusher is not None:
            await self._loop.run_in_executor(None, self._flusher.stop)
        self._flushing.shutdown(wait=False)
        self._store.close()
        self._delivery.close()

    def tick(self) -> None:
        """Called each second: nobody waits longer than `wait`; see what another process changed."""
        if self._unanswered:
            late = time.monotonic() - self._settings.wait
            for item in [i for i in self._unanswered.values() if i.submitted < late]:
                self._too_late(item)
        if not self._stopping and not self._syncing:
            try:
                self._look_around()
            except sqlite3.Error as error:
                log.error("the spool cannot be read", extra={"reason": str(error)})

    def _busy(self) -> bool:
        waits = self._unanswered or self._items or self._finished or self._progress or self._writes
        return bool(waits or self._syncing or self._finishing or self._runs.in_flight)

    def _too_late(self, item: Item) -> None:
        if item.committed:
            # It is safe; its outputs are merely slow.
            self._answer(item, accepted(item))
            return
        item.cancelled = True
        if item in self._items:
            self._items.remove(item)
            item.discard()
        self._answer(item, LATE)

    def _answer(self, item: Item, answer: Answer) -> None:
        if not item.settled:
            item.settled = True
            self._unanswered.pop(item.envelope.id, None)
            item.answered(answer)

    # -- commits -----------------------------------------------------------------------------

    def _put(self, message: Finished | Progress | Write) -> None:
        """Take a message from any thread."""
        if threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop has ended: the spool keeps the mail
                self._loop.call_soon_threadsafe(self._put, message)
            return
        if isinstance(message, Finished):
            self._finished.append(message)
            if self._tidy is None:
                self._tidy = self._loop.call_later(TIDY, self._wake)
            return
        if isinstance(message, Progress):
            self._progress.append(message)
        else:
            self._writes.append(message)
        self._wake()

    def _wake(self) -> None:
        if not self._woken and not self._syncing:
            self._woken = True
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        """Commit all that waits, and sync it."""
        self._woken = False
        if self._tidy is not None:
            self._tidy.cancel()
            self._tidy = None
        batch = (self._items, self._finished, self._progress, self._writes)
        if not any(batch):
            return
        self._items, self._finished, self._progress, self._writes = [], [], [], []
        self._syncing = True
        started = time.perf_counter()
        try:
            self._store.commit(lambda db: self._write_batch(db, *batch))
        except sqlite3.Error as error:
            self._syncing = False
            self._failed_commit(error, *batch)
            return
        except Exception:
            log.exception("fault in a commit of the spool")
            self._syncing = False
            self._failed_commit(sqlite3.Error("internal fault"), *batch)
            return
        if self._settings.durable:
            self._store.sync(
                lambda error: self._loop.call_soon_threadsafe(self._synced, error, started, *batch)
            )
        else:
            self._synced(None, started, *batch)

    def _write_batch(
        self,
        db: sqlite3.Connection,
        items: list[Item],
        finished: list[Finished],
        progress: list[Progress],
        writes: list[Write],
    ) -> None:
        now = time.time()
        if items:
            rows = []
            for item in items:
                self._seq += 1
                item.seq = self._seq
                body = item.content.data if isinstance(item.content, BytesContent) else None
                rows.append((item.seq, item.envelope, body, now))
            folder.insert(db, rows)
            for item in items:
                for record in item.refused:
                    folder.bury(db, record)
        if finished:
            folder.delete(db, [landing.seq for done in finished for landing in done.mails])
            traced = [landing.seq for done in finished if done.traces for landing in done.mails]
            if traced:
                folder.delete_traces(db, traced)
        for step in progress:
            self._record(db, step, now)
        for write in writes:
            db.execute(write.statement, write.values)

    def _failed_commit(
        self,
        error: Exception,
        items: list[Item],
        finished: list[Finished],
        progress: list[Progress],
        writes: list[Write],
    ) -> None:
        """The clients keep their mails; everything else is tried again in a second."""
        self.healthy = False
        log.error("the spool cannot be written", extra={"reason": str(error), "mails": len(items)})
        self._observer.spool_error()
        answer = FULL if "full" in str(error) else UNWRITABLE
        for item in items:
            item.discard()
            self._answer(item, answer)
        for write in writes:
            write.done(error)
        self._finished += finished
        self._progress += progress
        if finished or progress:
            self._loop.call_later(1.0, self._wake)

    def _synced(
        self,
        error: OSError | None,
        started: float,
        items: list[Item],
        finished: list[Finished],
        progress: list[Progress],
        writes: list[Write],
    ) -> None:
        """A batch is durable: go on with everything in it."""
        self._syncing = False
        if error is not None:
            self._failed_sync(error, items, finished, progress, writes)
            return
        self.healthy = True
        for write in writes:
            write.done(None)
        for done in finished:
            for landing in done.mails:
                self._settle(landing)
        for step in progress:
            self._after(step)
        if items:
            self._observer.spool_stored(time.perf_counter() - started)
            self._deliver_new(items)
        if not self._woken:
            self._store.checkpoint()
        if self._items or self._progress or self._writes:
            self._wake()

    def _failed_sync(
        self,
        error: OSError,
        items: list[Item],
        finished: list[Finished],
        progress: list[Progress],
        writes: list[Write],
    ) -> None:
        """The rows are written but may not survive: mails are taken back out of the spool."""
        if items:
            self._finishing.update(item.seq for item in items)
            mails = [Landing(item.seq, Mail(item.envelope, item.content), ()) for item in items]
            self._finished.append(Finished(mails))
        self._failed_commit(error, [], [], [], writes)
        for item in items:
            self._answer(item, UNWRITABLE)
        # Deletions and progress are repeated: doing them again changes nothing.
        self._finished += finished
        self._progress += progress
        self._loop.call_later(1.0, self._wake)

    # -- first attempts ----------------------------------------------------------------------

    def _deliver_new(self, items: list[Item]) -> None:
        landed: list[Landing] = []
        now = time.time()
        for item in items:
            try:
                self._deliver_first(item, landed, now)
            except Exception:
                # The mail is safe in the spool: a later run takes it up.
                log.exception("fault in a first delivery", extra={"id": item.envelope.id})
                self._schedule(item.seq, now + self._settings.first)
                self._answer(item, accepted(item))
        if landed:
            self._finish(landed)

    def _deliver_first(self, item: Item, landed: list[Landing], now: float) -> None:
        mail = Mail(item.envelope, item.content)
        if item.cancelled:
            # The client was told to keep it.
            self._finishing.add(item.seq)
            self._put(Finished([Landing(item.seq, mail, ())]))
            return
        item.committed = True
        owed = self._delivery.owed(item.envelope)
        quick = [o for o in owed if o.output is not None and o.output.processor.quick and self._is_quick(o)]
        outcomes = [self._attempt(mail, o, item.seq, now) for o in quick]
        if len(quick) == len(owed):
            if all(o.state is State.DONE for o in outcomes):
                landed.append(Landing(item.seq, mail, tuple(o.landed for o in outcomes if o.landed)))
                self._answer(item, accepted(item))
            elif all(o.state is State.DEAD for o in outcomes) and not item.settled:
                # The client still has the mail, and is told why nobody takes it.
                self._finishing.add(item.seq)
                self._put(Finished([Landing(item.seq, mail, ())]))
                self._answer(item, refused(outcomes))
            else:
                self._answer(item, accepted(item))
                self._runs.take(item.seq)
                self._put(self._runs.summary(item.seq, mail, owed, outcomes, 1, {}, None))
            return
        awaited = self._settings.wait_for_all or any(
            o.output is not None and o.output.processor.quick for o in owed if o not in quick
        )
        if not awaited:
            self._answer(item, accepted(item))
        self._runs.launch(item.seq, mail, owed, outcomes, 0, item if awaited else None)

    def _is_quick(self, owed: Owed) -> bool:
        return not self._slow_until or self._slow_until.get(id(owed.output), 0.0) < self._loop.time()

    def _attempt(self, mail: Mail, owed: Owed, seq: int, now: float) -> Outcome:
        """One attempt at one output, in the loop (quick ones) or in a pool thread."""
        started = time.perf_counter()
        once = Receipts(self._write, self._part, mail, owed, seq)
        outcome = self._delivery.attempt(mail, owed, once, now=now, seconds_left=_endless)
        seconds = time.perf_counter() - started
        delivered = outcome.state is State.DONE
        self._observer.output_done(owed.flow, outcome.label, "delivered" if delivered else "error", seconds)
        if seconds > SLOW and owed.output is not None and owed.output.processor.quick:
            log.warning(
                "a local output is slow", extra={"output": outcome.label, "seconds": round(seconds, 3)}
            )
            self._slow_until[id(owed.output)] = self._loop.time() + SLOW_FOR
        if not delivered:
            self._log_failure(mail, outcome)
        elif log.isEnabledFor(logging.DEBUG):
            log.debug("output done", extra={"id": mail.id, "flow": owed.flow, "output": outcome.label})
        return outcome

    def _log_failure(self, mail: Mail, outcome: Outcome) -> None:
        fault = outcome.fault
        assert fault is not None
        if isinstance(fault, Temporary) and fault.in_doubt:
            self._observer.in_doubt(outcome.owed.flow, outcome.label)
        again = outcome.state is State.RETRY
        if again:
            self._observer.retry(outcome.owed.flow, outcome.label)
        log.warning(
            "output failed, will be tried again" if again else "output given up",
            extra={
                "id": mail.id,
                "flow": outcome.owed.flow,
                "output": outcome.label,
                "code": fault.enhanced,
                "reason": fault.reason,
            },
        )

    def _finish(self, mails: list[Landing], *, traces: bool = False) -> None:
        """Every output of these mails is done: keep a copy if asked, flush, then remove."""
        self._finishing.update(landing.seq for landing in mails)
        if self._settings.keep is not None:
            mails = [landing for landing in mails if self._kept(landing)]
        done = Finished(mails, traces)
        if self._flusher is not None and any(landing.landed for landing in mails):
            self._flusher.put(done)
        elif mails:
            self._put(done)

    def _kept(self, landing: Landing) -> bool:
        assert self._settings.keep is not None
        try:
            self._settings.keep(landing.mail)
        except OSError as error:
            log.warning(
                "the copy of a mail could not be kept", extra={"id": landing.mail.id, "reason": str(error)}
            )
            self._finishing.discard(landing.seq)
            self._schedule(landing.seq, time.time() + self._settings.first)
            return False
        return True

    def _settle(self, landing: Landing) -> None:
        """The mail is gone from the spool: tidy up after it."""
        for each in landing.landed:
            each.settle()
        path = landing.mail.content.path
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()
        self._finishing.discard(landing.seq)

    # -- further attempts --------------------------------------------------------------------

    def _record(self, db: sqlite3.Connection, step: Progress, now: float) -> None:
        """Write one run down, inside the transaction."""
        if step.mail is None or step.finished or (step.item is not None and all_dead(step)):
            return
        settled = [(step.seq, o.owed.key, o.state.value) for o in step.outcomes if o.state is not State.RETRY]
        db.executemany("INSERT OR REPLACE INTO settled (seq, key, state) VALUES (?, ?, ?)", settled)
        for outcome in step.outcomes:
            if outcome.state is State.DEAD:
                folder.bury(db, dead_record(step.mail, outcome, step.attempts, now))
        wait = backoff(step.attempts, first=self._settings.first, longest=self._settings.longest)
        step.due = now + max(wait, step.retry_after or 0.0)
        db.execute(
            "UPDATE mail SET parked = ?, attempts = ?, next = ? WHERE seq = ?",
            (int(step.parked), step.attempts, step.due, step.seq),
        )

    def _after(self, step: Progress) -> None:
        """A run is written down: settle what landed, then finish, schedule or answer."""
        self._runs.done(step.seq)
        mail = step.mail
        if mail is None:
            if step.retry_after is not None:
                self._schedule(step.seq, time.time() + step.retry_after)
            return
        if step.item is not None and not step.item.settled and all_dead(step):
            self._finishing.add(step.seq)
            self._put(Finished([Landing(step.seq, mail, ())], traces=True))
            self._answer(step.item, refused(step.outcomes))
            return
        for outcome in step.outcomes:
            if outcome.state is State.DEAD:
                self._observer.dead_letter(outcome.owed.flow, outcome.label)
        landed = tuple(o.landed for o in step.outcomes if o.landed is not None)
        if step.finished:
            self._finish([Landing(step.seq, mail, landed)], traces=True)
        else:
            for each in landed:
                each.settle()
            if not step.parked:
                self._schedule(step.seq, step.due)
        if step.item is not None:
            self._answer(step.item, accepted(step.item))
        self._start_due()

    def _schedule(self, seq: int, due: float) -> None:
        self._scheduled[seq] = due
        heapq.heappush(self._retries, (due, seq))
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._retries and not self._stopping:
            wait = max(0.005, self._retries[0][0] - time.time())
            self._alarm = self._loop.call_later(min(wait, 3600.0), self._start_due)

    def _start_due(self) -> None:
        now = time.time()
        while self._retries and self._retries[0][0] <= now and self._runs.has_room and not self._stopping:
            due, seq = heapq.heappop(self._retries)
            if self._scheduled.get(seq) != due:
                continue
            del self._scheduled[seq]
            if not self._runs.holds(seq):
                self._runs.launch(seq, None, None, (), 0, None)
        if self._runs.has_room:
            self._set_alarm()

    def _look_around(self) -> None:
        """See what `deadletter` changed beside us, and sweep every few minutes."""
        now = self._loop.time()
        db = self._store.db
        version = db.execute("PRAGMA data_version").fetchone()[0]
        sweep = now >= self._next_sweep
        if version == self._data_version and not sweep:
            return
        self._data_version = version
        for seq in self._part.due(db, time.time()):
            if not (self._runs.holds(seq) or seq in self._scheduled or seq in self._finishing):
                self._schedule(seq, time.time())
        if sweep:
            self._next_sweep = now + self._settings.sweep
            self._report(db)

    def _report(self, db: sqlite3.Connection) -> None:
        unfinished, oldest = db.execute(
            "SELECT count(*), min(received) FROM mail WHERE parked = 0"
        ).fetchone()
        dead = db.execute("SELECT count(*) FROM dead").fetchone()[0]
        self._observer.backlog(oldest / 1000 if oldest else None, unfinished, dead)
        if unfinished or dead:
            age = max(0.0, time.time() - oldest / 1000) if oldest else 0.0
            extra = {"unfinished": unfinished, "dead": dead, "oldest_seconds": round(age)}
            log.info("sweep", extra=extra)

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        """Make a receipt durable, from a pool thread. Raises Temporary when that failed."""
        ready = threading.Event()
        errors: list[Exception] = []

        def done(error: Exception | None) -> None:
            if error is not None:
                errors.append(error)
            ready.set()

        self._put(Write(statement, values, done))
        if not ready.wait(30):
            raise Temporary("the receipt could not be written in time")
        if errors:
            raise Temporary(f"the receipt could not be written: {errors[0]}")

    @property
    def staging(self) -> Path:
        """Where outputs may keep temporary files."""
        return self._part.staging


def _endless() -> float:
    return float("inf")
