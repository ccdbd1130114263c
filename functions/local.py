"""In-process delivery: the local spool's one writer thread, and what it delivers (SPEC section 6).

All mails that wait are committed together, then the `quick` outputs (file, log) of each run in
the same thread, then the clients are answered. What is done is removed with the next commit. The
other outputs, and every further attempt, run in a small pool; their receipts go through the same
writer. docs/adr/0003 has the figures behind this order.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from functions import folder
from functions.delivery import Delivery, Outcome, Owed, State, backoff, dead_record, report
from functions.envelope import Envelope
from functions.errors import Permanent, Temporary
from functions.folder import Part, Row
from functions.local_flush import Flusher
from functions.local_receipts import Receipts
from functions.mail import BytesContent, Content, Mail
from functions.observer import NullObserver, Observer
from functions.processors.base import Landed
from functions.spool import DeadRecord

log = logging.getLogger("smtp_relay.delivery")

POOL: Final = 8
"""Threads for outputs that wait for somebody."""

IN_FLIGHT: Final = 64
"""Mails handed to the pool at once; the others wait in the spool, not in memory."""

MAX_BATCH: Final = 256
"""Mails in one commit."""

POLL: Final = 1.0
"""Seconds between looks at what another process (deadletter) changed."""

BROKEN_PAUSE: Final = 1.0
"""Seconds to wait after a commit that failed, for work that nobody is waiting for."""


class Answer(NamedTuple):
    """What the client is to be told: RFC 5321 code, RFC 3463 enhanced status code, text."""

    code: int
    enhanced: str
    text: str


UNWRITABLE: Final = Answer(451, "4.3.0", "The mail could not be stored, try again later")
FULL: Final = Answer(452, "4.3.1", "Insufficient system storage")
LATE: Final = Answer(451, "4.3.0", "The mail could not be stored in time, try again later")


@dataclass(slots=True, eq=False)
class Item:
    """One mail on its way into the spool. `answered` is called once, in the writer thread's
    batch; `refused` are dead records of recipients that were refused after DATA."""

    envelope: Envelope
    content: Content
    answered: Callable[[Answer], None]
    refused: tuple[DeadRecord, ...] = ()
    submitted: float = field(default_factory=time.monotonic)
    seq: int = 0
    taken: bool = False
    committed: bool = False
    settled: bool = False
    """An answer was given."""
    cancelled: bool = False


@dataclass(slots=True)
class _Progress:
    """What a run over an unfinished mail brought, to be written."""

    seq: int
    mail: Mail
    attempts: int
    outcomes: Sequence[Outcome]
    finished: bool
    parked: bool
    retry_after: float | None
    item: Item | None = None


@dataclass(slots=True)
class _Finished:
    """Mails whose outputs are all done and durable; `landed` is settled after the commit."""

    mails: list[tuple[int, Mail, tuple[Landed, ...]]]
    traces: bool = False


class _Write(NamedTuple):
    """A receipt to be made durable; `done` is set then, with an error when it failed."""

    statement: str
    values: tuple[Any, ...]
    done: Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """How local delivery behaves; seconds throughout (SPEC section 2, `delivery`)."""

    durable: bool = True
    wait: float = 10.0
    wait_for_all: bool = False
    first: float = 30.0
    longest: float = 900.0
    sweep: float = 300.0
    keep: Callable[[Mail], None] | None = None
    """Copies a finished mail to where `keepCache` wants it, durably."""


class LocalDelivery:
    """Owns one part of the local spool and delivers what is in it.

    `post` hands a batch of (item, answer) to the listener; it is called in the writer thread.
    """

    def __init__(
        self,
        part: Part,
        delivery: Delivery,
        settings: Settings,
        post: Callable[[list[tuple[Item, Answer]]], None],
        observer: Observer | None = None,
    ) -> None:
        self._part = part
        self._delivery = delivery
        self._settings = settings
        self._post = post
        self._observer = observer or NullObserver()
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._pool = ThreadPoolExecutor(POOL, thread_name_prefix="delivery")
        self._flusher = Flusher(self._queue.put) if settings.durable else None
        self._unanswered: dict[str, Item] = {}
        self._guard = threading.Lock()
        self._retries: list[tuple[float, int]] = []
        self._scheduled: dict[int, float] = {}
        self._in_flight: set[int] = set()
        self._seq = 0
        self._stopping = False
        self._data_version = 0
        self._next_look = 0.0
        self._next_sweep = 0.0
        self._failed = threading.Event()
        self._stop_deadline = float("inf")
        self._finishing: set[int] = set()
        self.healthy = True
        """Whether the last commit worked; `/readyz` asks."""

    @property
    def staging(self) -> Path:
        """Where outputs may keep temporary files."""
        return self._part.staging

    def start(self) -> None:
        """Open the part, schedule what a crash left, start the threads. Raises ConfigError."""
        self._part.create()
        db = self._part.connect(durable=self._settings.durable)
        orphans = self._part.remove_orphans(db)
        left = self._part.waiting(db)
        self._seq = db.execute("SELECT coalesce(max(seq), 0) FROM mail").fetchone()[0]
        db.close()
        if left or orphans:
            log.info("taking up the spool", extra={"unfinished": len(left), "orphans": orphans})
        for _, seq in left:
            # Whatever its next attempt was, a restart is a good moment for one.
            self._schedule(seq, 0.0)
        self._thread.start()

    def submit(self, item: Item) -> None:
        """Store and deliver one mail; the answer comes through `post`."""
        self._unanswered[item.envelope.id] = item
        self._queue.put(item)

    def resolve(self, batch: Sequence[tuple[Item, Answer]]) -> None:
        """Give answers to their clients. Called by the listener, in its event loop, with what
        `post` handed it."""
        for item, answer in batch:
            if not item.settled:
                item.settled = True
                self._unanswered.pop(item.envelope.id, None)
                item.answered(answer)

    def tick(self) -> None:
        """Called each second in the event loop: nobody waits longer than `wait`."""
        if not self._unanswered:
            return
        late = time.monotonic() - self._settings.wait
        for item in [i for i in self._unanswered.values() if i.submitted < late]:
            if item.committed:
                # It is safe; its outputs are merely slow.
                self.resolve([(item, _accepted(item))])
                continue
            with self._guard:
                item.cancelled = not item.taken
            if item.cancelled:
                self._discard(item)
                self.resolve([(item, LATE)])

    def stop(self, timeout: float = 30.0) -> None:
        """Finish what is in hand and stop; what is not finished stays in the spool."""
        self._stop_deadline = time.monotonic() + timeout
        self._queue.put(None)
        self._thread.join(timeout + 5)
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._flusher is not None:
            self._flusher.stop()

    # -- the writer thread -------------------------------------------------------------------

    def _run(self) -> None:
        db = self._part.connect(durable=self._settings.durable)
        with contextlib.closing(db):
            while True:
                messages = self._gather()
                try:
                    self._round(db, messages)
                except Exception:
                    # Nothing may end this thread: the spool would silently stop.
                    log.exception("fault in the spool's writer")
                    time.sleep(BROKEN_PAUSE)
                if self._stopping and self._idle():
                    return

    def _idle(self) -> bool:
        busy = self._in_flight or self._finishing or not self._queue.empty()
        return not busy or time.monotonic() > self._stop_deadline

    def _gather(self) -> list[Any]:
        """Everything that waits; blocks until there is something or it is time to look around."""
        messages: list[Any] = []
        timeout = POLL
        if self._retries:
            timeout = min(POLL, max(0.0, self._retries[0][0] - time.time()))
        if self._stopping:
            timeout = min(timeout, 0.05)
        try:
            messages.append(self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait())
            while len(messages) < MAX_BATCH:
                messages.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return messages

    def _round(self, db: sqlite3.Connection, messages: Sequence[Any]) -> None:
        items: list[Item] = []
        finished: list[_Finished] = []
        progress: list[_Progress] = []
        writes: list[_Write] = []
        for message in messages:
            if isinstance(message, Item):
                items.append(message)
            elif isinstance(message, _Finished):
                finished.append(message)
            elif isinstance(message, _Progress):
                progress.append(message)
            elif isinstance(message, _Write):
                writes.append(message)
            elif isinstance(message, Flusher.Done):
                finished.append(_Finished(message.mails, traces=True))
            else:
                self._stopping = True
        if items:
            items = self._take(items)
        if items or finished or progress or writes:
            self._commit(db, items, finished, progress, writes)
        if not self._stopping:
            self._look_around(db)
            self._start_due(db)

    def _take(self, items: list[Item]) -> list[Item]:
        with self._guard:
            for item in items:
                item.taken = not item.cancelled
        return [item for item in items if item.taken]

    def _commit(
        self,
        db: sqlite3.Connection,
        items: list[Item],
        finished: list[_Finished],
        progress: list[_Progress],
        writes: list[_Write],
    ) -> None:
        now = time.time()
        started = time.perf_counter()
        try:
            db.execute("BEGIN IMMEDIATE")
            if items:
                self._insert(db, items, now)
            for done in finished:
                folder.delete(db, [seq for seq, _, _ in done.mails], traces=done.traces)
            for step in progress:
                self._record(db, step, now)
            for write in writes:
                db.execute(write.statement, write.values)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rolled_back(db, error, items, finished, progress, writes)
            return
        self.healthy = True
        for write in writes:
            write.done(None)
        for done in finished:
            self._settle(done)
        for step in progress:
            self._after(step, now)
        if items:
            self._observer.spool_stored(time.perf_counter() - started)
            self._deliver_new(items)

    def _insert(self, db: sqlite3.Connection, items: list[Item], now: float) -> None:
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

    def _rolled_back(
        self,
        db: sqlite3.Connection,
        error: sqlite3.Error,
        items: list[Item],
        finished: list[_Finished],
        progress: list[_Progress],
        writes: list[_Write],
    ) -> None:
        """A commit failed: the clients keep their mails, everything else is tried again."""
        if db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        self.healthy = False
        log.error("the spool cannot be written", extra={"reason": str(error), "mails": len(items)})
        self._observer.spool_error()
        answer = FULL if "full" in str(error) else UNWRITABLE
        for item in items:
            self._discard(item)
        if items:
            self._post([(item, answer) for item in items])
        for write in writes:
            write.done(error)
        if finished or progress:
            time.sleep(BROKEN_PAUSE)
            for message in (*finished, *progress):
                self._queue.put(message)

    def _discard(self, item: Item) -> None:
        if item.content.path is not None:
            with contextlib.suppress(OSError):
                item.content.path.unlink()

    # -- first attempts ----------------------------------------------------------------------

    def _deliver_new(self, items: list[Item]) -> None:
        answers: list[tuple[Item, Answer]] = []
        landed: list[tuple[int, Mail, tuple[Landed, ...]]] = []
        now = time.time()
        for item in items:
            item.committed = True
            mail = Mail(item.envelope, item.content)
            owed = self._delivery.owed(item.envelope)
            quick = [o for o in owed if o.output is not None and o.output.processor.quick]
            outcomes = [self._attempt(mail, o, item.seq, now) for o in quick]
            if len(quick) == len(owed) and all(o.state is State.DONE for o in outcomes):
                landed.append((item.seq, mail, tuple(o.landed for o in outcomes if o.landed is not None)))
                answers.append((item, _accepted(item)))
                continue
            slow = [o for o in owed if o not in quick]
            if not slow and outcomes and all(o.state is State.DEAD for o in outcomes):
                if not item.settled:
                    # The client still has the mail, and it is told why nobody wants it.
                    answers.append((item, _refused(outcomes)))
                    self._finishing.add(item.seq)
                    self._queue.put(_Finished([(item.seq, mail, ())]))
                    continue
            waits = bool(slow) and self._settings.wait_for_all
            if not waits:
                answers.append((item, _accepted(item)))
            if slow:
                self._launch(item.seq, mail, owed, outcomes, 0, item if waits else None)
            else:
                self._in_flight.add(item.seq)
                self._queue.put(self._progress(item.seq, mail, owed, outcomes, 1, {}, None))
        if answers:
            self._post(answers)
        if landed:
            self._finish(landed)

    def _attempt(self, mail: Mail, owed: Owed, seq: int, now: float) -> Outcome:
        started = time.perf_counter()
        once = Receipts(self._write, self._part, mail, owed, seq)
        outcome = self._delivery.attempt(mail, owed, once, now=now, seconds_left=_endless)
        delivered = outcome.state is State.DONE
        seconds = time.perf_counter() - started
        self._observer.output_done(owed.flow, outcome.label, "delivered" if delivered else "error", seconds)
        if not delivered:
            self._failed(mail, outcome)
        return outcome

    def _failed(self, mail: Mail, outcome: Outcome) -> None:
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

    def _finish(self, mails: list[tuple[int, Mail, tuple[Landed, ...]]], *, traces: bool = False) -> None:
        """Every output of these mails is done: keep a copy if asked, flush, then remove."""
        if self._settings.keep is not None:
            for _, mail, _ in mails:
                self._settings.keep(mail)
        self._finishing.update(seq for seq, _, _ in mails)
        if self._flusher is not None and any(landed for _, _, landed in mails):
            self._flusher.put(mails)
        else:
            self._queue.put(_Finished(mails, traces))

    def _settle(self, done: _Finished) -> None:
        """The mails are gone from the spool: tidy up after them."""
        for seq, mail, landed in done.mails:
            for each in landed:
                each.settle()
            if mail.content.path is not None:
                with contextlib.suppress(OSError):
                    mail.content.path.unlink()
            self._finishing.discard(seq)

    # -- further attempts --------------------------------------------------------------------

    def _launch(
        self,
        seq: int,
        mail: Mail | None,
        owed: Sequence[Owed] | None,
        outcomes: Sequence[Outcome],
        attempts: int,
        item: Item | None,
    ) -> None:
        """Hand a mail to the pool. With no room it stays in the spool and comes up again."""
        if len(self._in_flight) >= IN_FLIGHT and item is None and not outcomes:
            self._schedule(seq, time.time() + 0.2)
            return
        self._in_flight.add(seq)
        self._pool.submit(self._run_one, seq, mail, owed, tuple(outcomes), attempts, item)

    def _run_one(
        self,
        seq: int,
        mail: Mail | None,
        owed: Sequence[Owed] | None,
        before: tuple[Outcome, ...],
        attempts: int,
        item: Item | None,
    ) -> None:
        """One run over one mail, in a pool thread; what it brought goes to the writer."""
        try:
            settled: dict[str, State] = {}
            if mail is None:
                db = self._part.connect()
                with contextlib.closing(db):
                    row = self._part.load(db, seq)
                    if row is None:
                        self._queue.put(_Progress(seq, _NOTHING, 0, (), False, False, None))
                        return
                    settled = _settled(db, row)
                mail, attempts = row.mail, row.attempts
            owed = self._delivery.owed(mail.envelope) if owed is None else owed
            tried = {outcome.owed.key for outcome in before}
            now = time.time()
            outcomes = list(before)
            for each in owed:
                if each.key not in settled and each.key not in tried:
                    outcomes.append(self._attempt(mail, each, seq, now))
            self._queue.put(self._progress(seq, mail, owed, outcomes, attempts + 1, settled, item))
        except Exception:
            log.exception("fault in a delivery run", extra={"seq": seq})
            self._queue.put(_Progress(seq, _NOTHING, attempts, (), False, False, 30.0, item))

    def _progress(
        self,
        seq: int,
        mail: Mail,
        owed: Sequence[Owed],
        outcomes: Sequence[Outcome],
        attempts: int,
        settled: dict[str, State],
        item: Item | None,
    ) -> _Progress:
        """Sum a run up, and make durable what it did before it is written down."""
        for outcome in outcomes:
            if outcome.landed is not None and self._settings.durable:
                outcome.landed.flush()
        states = settled | {o.owed.key: o.state for o in outcomes if o.state is not State.RETRY}
        sum_ = report(owed, states, outcomes)
        return _Progress(seq, mail, attempts, outcomes, sum_.finished, sum_.parked, sum_.retry_after, item)

    def _record(self, db: sqlite3.Connection, step: _Progress, now: float) -> None:
        """Write one run down, inside the transaction."""
        if step.mail is _NOTHING or step.finished:
            return
        if step.item is not None and _all_dead(step):
            return
        settled = [(step.seq, o.owed.key, o.state.value) for o in step.outcomes if o.state is not State.RETRY]
        db.executemany("INSERT OR REPLACE INTO settled (seq, key, state) VALUES (?, ?, ?)", settled)
        for outcome in step.outcomes:
            if outcome.state is State.DEAD:
                folder.bury(db, dead_record(step.mail, outcome, step.attempts, now))
        wait = backoff(step.attempts, first=self._settings.first, longest=self._settings.longest)
        due = now + max(wait, step.retry_after or 0.0)
        db.execute(
            "UPDATE mail SET parked = ?, attempts = ?, next = ? WHERE seq = ?",
            (int(step.parked), step.attempts, due, step.seq),
        )
        if not step.parked:
            self._schedule(step.seq, due)

    def _after(self, step: _Progress, now: float) -> None:
        """A run is written down: settle what landed, finish or answer."""
        self._in_flight.discard(step.seq)
        landed = tuple(o.landed for o in step.outcomes if o.landed is not None)
        if step.mail is _NOTHING:
            if step.retry_after is not None:
                self._schedule(step.seq, now + step.retry_after)
            return
        for outcome in step.outcomes:
            if outcome.state is State.DEAD:
                self._observer.dead_letter(outcome.owed.flow, outcome.label)
        if step.item is not None and not step.item.settled and _all_dead(step):
            self._finishing.add(step.seq)
            self._queue.put(_Finished([(step.seq, step.mail, ())], traces=True))
            self._post([(step.item, _refused(step.outcomes))])
            return
        if step.finished:
            self._finish([(step.seq, step.mail, landed)], traces=True)
        else:
            for each in landed:
                each.settle()
        if step.item is not None:
            self._post([(step.item, _accepted(step.item))])

    def _schedule(self, seq: int, due: float) -> None:
        self._scheduled[seq] = due
        heapq.heappush(self._retries, (due, seq))

    def _start_due(self, db: sqlite3.Connection) -> None:
        now = time.time()
        while self._retries and self._retries[0][0] <= now and len(self._in_flight) < IN_FLIGHT:
            due, seq = heapq.heappop(self._retries)
            if self._scheduled.get(seq) != due or seq in self._in_flight:
                continue
            del self._scheduled[seq]
            self._launch(seq, None, None, (), 0, None)
        if self._retries and self._retries[0][0] <= now:
            # Full: look again soon instead of spinning.
            time.sleep(0.01)

    def _look_around(self, db: sqlite3.Connection) -> None:
        """See what `deadletter` changed beside us, and sweep every few minutes."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + POLL
        version = db.execute("PRAGMA data_version").fetchone()[0]
        sweep = now >= self._next_sweep
        if version == self._data_version and not sweep:
            return
        self._data_version = version
        for seq in self._part.due(db, time.time()):
            if not (seq in self._in_flight or seq in self._scheduled or seq in self._finishing):
                self._schedule(seq, time.time())
        if sweep:
            self._next_sweep = now + self._settings.sweep
            self._report(db)

    def _report(self, db: sqlite3.Connection) -> None:
        unfinished, oldest = db.execute("SELECT count(*), min(received) FROM mail WHERE parked = 0").fetchone()
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

        self._queue.put(_Write(statement, values, done))
        if not ready.wait(30):
            raise Temporary("the receipt could not be written in time")
        if errors:
            raise Temporary(f"the receipt could not be written: {errors[0]}")


_NOTHING: Final = Mail.__new__(Mail)
"""Stands for the mail of a run that found none."""


def _endless() -> float:
    return float("inf")


def _accepted(item: Item) -> Answer:
    return Answer(250, "2.0.0", f"OK queued as {item.envelope.id}")


def _refused(outcomes: Sequence[Outcome]) -> Answer:
    fault = outcomes[0].fault
    enhanced = fault.enhanced if isinstance(fault, Permanent) else "5.3.0"
    return Answer(554, enhanced, "No output can take this mail")


def _all_dead(step: _Progress) -> bool:
    return step.parked and all(o.state is State.DEAD for o in step.outcomes)


def _settled(db: sqlite3.Connection, row: Row) -> dict[str, State]:
    found = db.execute("SELECT key, state FROM settled WHERE seq = ?", (row.seq,))
    return {key: State(state) for key, state in found}
