"""In-process delivery: the local spool and what it delivers, driven by the event loop (SPEC §6).

All mails that come in during one turn of the loop, or during one fsync, are committed together;
then the `quick` outputs (file, log) of each run in the loop and the clients are answered. What is
done is removed with the next commit. Other outputs, and every further attempt, run in a small pool;
their receipts go through the same commits. docs/adr/0003-local-spool.md has the figures behind this order.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from functions.delivery.engine import Delivery, Outcome, Owed, State
from functions.delivery.events import DeliveryEvents
from functions.errors import Temporary
from functions.local.commits import UNWRITABLE, Commits
from functions.local.database import sync_file
from functions.local.flusher import Flusher
from functions.local.layout import Part
from functions.local.messages import (
    Answer,
    DoneMail,
    Finished,
    Item,
    Progress,
    Settings,
    accepted,
    all_dead,
    refused,
)
from functions.local.receipts import LocalReceipts, ReceiptBook
from functions.local.runs import Runs
from functions.local.schedule import Schedule
from functions.message.mail import Mail

log = logging.getLogger("smtp_relay.delivery")

SLOW: Final = 0.1
"""Seconds after which a quick output counts as slow, when it is so twice within HICCUP: once is what
a busy machine does to anybody. It then runs in the pool for a while, so that a slow folder does not
hold up the event loop."""

HICCUP: Final = 5.0

HANGING: Final = 1.0
"""Seconds after which once is enough."""

SLOW_FOR: Final = 60.0

FLUSHES: Final = 4
"""Large bodies made durable at once."""

LATE: Final = Answer(451, "4.3.0", "The mail could not be stored in time, try again later")

PARTING: Final = 1.0
"""Seconds for what outputs let go of at the end to be written down."""


class LocalDelivery:
    """Owns one part of the local spool and delivers what is in it.

    Everything runs in the event loop that called `start`, but for the pool's runs and the syncs.
    """

    def __init__(
        self, part: Part, delivery: Delivery, settings: Settings, observer: DeliveryEvents | None = None
    ) -> None:
        self._part = part
        self._delivery = delivery
        self.settings = settings
        self._observer = observer or DeliveryEvents()
        self._loop: asyncio.AbstractEventLoop
        self._commits = Commits(self, part, self._observer, durable=settings.durable)
        self._receipts = ReceiptBook(part, self._commits.put)
        self._flusher: Flusher | None = None
        self._runs = Runs(part, delivery, self._attempt, self._commits.put, durable=settings.durable)
        self._bodies = ThreadPoolExecutor(FLUSHES, thread_name_prefix="spool-body")
        self._schedule = Schedule(self._start_due)
        self._unanswered: dict[str, Item] = {}
        self._finishing: set[int] = set()
        self._slow_until: dict[int, float] = {}
        self._hiccups: dict[int, float] = {}
        self._data_version = 0
        self._next_sweep = 0.0
        self._stopping = False

    @property
    def healthy(self) -> bool:
        """Whether the last commit worked; `/readyz` asks."""
        return self._commits.healthy

    @property
    def staging(self) -> Path:
        """Where outputs may keep temporary files."""
        return self._part.staging

    def start(self) -> None:
        """Open the part and schedule what a crash left. Raises ConfigError."""
        self._loop = asyncio.get_running_loop()
        self._commits.start()
        if self.settings.durable:
            self._flusher = Flusher(self._commits.put)
        db = self._commits.store.db
        orphans = self._part.remove_orphans(db)
        left = self._part.waiting(db)
        if left or orphans:
            log.info("taking up the spool", extra={"unfinished": len(left), "orphans": orphans})
        for _, seq in left:
            # Whatever its next attempt was, a restart is a good moment for one.
            self._schedule.add(seq, 0.0)
        self._start_due()

    def submit(self, item: Item) -> None:
        """Store and deliver one mail; `item.answered` is called once, in the event loop."""
        self._unanswered[item.envelope.id] = item
        if item.content.path is not None and self.settings.durable:
            # The row must not be there before its body is.
            flushed = self._loop.run_in_executor(self._bodies, sync_file, item.content.path)
            flushed.add_done_callback(partial(self._body_flushed, item))
        else:
            self._commits.add(item)

    def _body_flushed(self, item: Item, flushed: asyncio.Future[None]) -> None:
        error = flushed.exception()
        if error is None and not item.cancelled:
            self._commits.add(item)
            return
        if error is not None:
            extra = {"id": item.envelope.id, "reason": str(error)}
            log.error("a mail could not be made durable", extra=extra)
            self._observer.spool_error()
        item.discard()
        self._answer(item, UNWRITABLE)

    def replace(self, delivery: Delivery, settings: Settings) -> None:
        """Go on with other outputs and patience; durability stays as it is. Runs under way end
        with what they began with."""
        self._delivery = delivery
        self.settings = dataclasses.replace(settings, durable=self.settings.durable)
        self._runs.replace(delivery)

    async def stop(self, timeout: float = 30.0) -> int:
        """Finish what is in hand and stop; what is not finished stays in the spool.

        Returns how many runs are still held up in their threads: how they end will not be known."""
        self._stopping = True
        deadline = self._loop.time() + timeout
        await self._settle_until(deadline)
        # An output that waits for a server which does not answer is made to let go, and then there
        # is a moment to write down what that left undone or in doubt.
        await self._loop.run_in_executor(None, self._delivery.close)
        await self._settle_until(self._loop.time() + PARTING)
        self._schedule.cancel()
        self._runs.stop()
        if self._flusher is not None:
            await self._loop.run_in_executor(None, self._flusher.stop)
        self._bodies.shutdown(wait=False)
        self._commits.close()
        return self._runs.running

    async def _settle_until(self, deadline: float) -> None:
        while self._busy() and self._loop.time() < deadline:
            await asyncio.sleep(0.01)

    def _busy(self) -> bool:
        return bool(self._unanswered or self._commits.busy or self._finishing or self._runs.in_flight)

    def tick(self) -> None:
        """Called each second: nobody waits longer than `wait`; see what another process changed."""
        if self._unanswered:
            late = time.monotonic() - self.settings.wait
            for item in [i for i in self._unanswered.values() if i.submitted < late]:
                self._too_late(item)
        if not self._stopping and not self._commits.syncing:
            try:
                self._look_around()
            except sqlite3.Error as error:
                log.error("the spool cannot be read", extra={"reason": str(error)})

    def _too_late(self, item: Item) -> None:
        if item.committed:
            # It is safe; its outputs are merely slow.
            self._answer(item, accepted(item))
            return
        item.cancelled = True
        if self._commits.withdraw(item):
            item.discard()
        self._answer(item, LATE)

    def _answer(self, item: Item, answer: Answer) -> None:
        if not item.settled:
            item.settled = True
            self._unanswered.pop(item.envelope.id, None)
            item.answered(answer)

    # -- first attempts ----------------------------------------------------------------------

    def rejected(self, item: Item, answer: Answer) -> None:
        """This mail could not be stored."""
        self._answer(item, answer)

    def withdrawn(self, seq: int) -> None:
        """This mail was stored, perhaps not durably, and is being taken back."""
        self._finishing.add(seq)

    def stored(self, items: list[Item]) -> None:
        """These mails are durable: deliver them."""
        landed: list[DoneMail] = []
        now = time.time()
        for item in items:
            try:
                self._deliver_first(item, landed, now)
            except Exception:
                # The mail is safe in the spool: a later run takes it up.
                log.exception("fault in a first delivery", extra={"id": item.envelope.id})
                self._schedule.add(item.seq, now + self.settings.first)
                self._answer(item, accepted(item))
        if landed:
            self._finish(landed)

    def _deliver_first(self, item: Item, landed: list[DoneMail], now: float) -> None:
        mail = Mail(item.envelope, item.content)
        if item.cancelled:
            # The client was told to keep it.
            self._forget(item.seq, mail)
            return
        item.committed = True
        owed = self._delivery.owed(item.envelope)
        quick = [o for o in owed if _quick(o)]
        if self._slow_until:
            quick = [o for o in quick if not self._is_slow(o)]
        outcomes = [self._attempt(mail, o, item.seq, now) for o in quick]
        if len(quick) < len(owed):
            self._deliver_rest(item, mail, owed, outcomes)
        elif all(o.state is State.DONE for o in outcomes):
            landed.append(DoneMail(item.seq, mail, tuple(o.landed for o in outcomes if o.landed)))
            self._answer(item, accepted(item))
        elif all(o.state is State.DEAD for o in outcomes) and not item.settled:
            # The client still has the mail, and is told why nobody takes it.
            self._forget(item.seq, mail)
            self._answer(item, refused(outcomes))
        else:
            self._answer(item, accepted(item))
            self._runs.take(item.seq)
            self._commits.put(self._runs.summary(item.seq, mail, owed, outcomes, 1, {}, None))

    def _deliver_rest(self, item: Item, mail: Mail, owed: list[Owed], outcomes: list[Outcome]) -> None:
        """Some outputs are left for the pool, whose answer is awaited only where that was asked for
        or the outputs are local ones."""
        done = {id(outcome.owed) for outcome in outcomes}
        left = [o for o in owed if id(o) not in done]
        awaited = self.settings.wait_for_all or any(map(_quick, left))
        if not awaited:
            self._answer(item, accepted(item))
            if not self._runs.has_room:
                # It waits in the spool, not in memory.
                self._runs.take(item.seq)
                self._commits.put(self._runs.summary(item.seq, mail, owed, outcomes, 0, {}, None))
                return
        self._runs.launch(item.seq, mail, owed, outcomes, 0, item if awaited else None)

    def _is_slow(self, owed: Owed) -> bool:
        return self._slow_until.get(id(owed.output), 0.0) > self._loop.time()

    def _was_slow(self, owed: Owed, label: str, seconds: float) -> None:
        now, place = self._loop.time(), id(owed.output)
        before = self._hiccups.get(place)
        self._hiccups[place] = now
        if seconds < HANGING and (before is None or now - before > HICCUP):
            return
        if not self._is_slow(owed):
            log.warning("a local output is slow", extra={"output": label, "seconds": round(seconds, 3)})
        self._slow_until[place] = now + SLOW_FOR

    def _attempt(self, mail: Mail, owed: Owed, seq: int, now: float) -> Outcome:
        """One attempt at one output, in the loop (quick ones) or in a pool thread."""
        started = time.perf_counter()
        delivery = self._delivery
        once = LocalReceipts(self._receipts, mail, owed, seq, keeps_doubts=delivery.gives_up_doubts)
        outcome = delivery.attempt(mail, owed, once, now=now, seconds_left=_endless)
        seconds = time.perf_counter() - started
        delivered = outcome.state is State.DONE
        self._observer.output_done(owed.flow, outcome.label, "delivered" if delivered else "error", seconds)
        if seconds > SLOW and _quick(owed):
            self._was_slow(owed, outcome.label, seconds)
        if not delivered:
            self._log_failure(mail, outcome)
        elif log.isEnabledFor(logging.DEBUG):
            log.debug("output done", extra={"id": mail.id, "flow": owed.flow, "output": outcome.label})
        return outcome

    def _log_failure(self, mail: Mail, outcome: Outcome) -> None:
        fault = outcome.fault
        assert fault is not None
        in_doubt = isinstance(fault, Temporary) and fault.in_doubt
        if in_doubt:
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
                **({"in_doubt": True} if in_doubt else {}),
            },
        )

    def _forget(self, seq: int, mail: Mail, *, traces: bool = False) -> None:
        """Remove a mail that the client keeps."""
        self._finishing.add(seq)
        self._commits.put(Finished([DoneMail(seq, mail, ())], traces))

    def _finish(self, mails: list[DoneMail], *, traces: bool = False) -> None:
        """Every output of these mails is done: keep a copy if asked, flush, then remove."""
        self._finishing.update(landing.seq for landing in mails)
        if self.settings.keep is not None:
            mails = [landing for landing in mails if self._kept(landing)]
        done = Finished(mails, traces)
        if self._flusher is not None and any(landing.landed for landing in mails):
            self._flusher.put(done)
        elif mails:
            self._commits.put(done)

    def _kept(self, landing: DoneMail) -> bool:
        assert self.settings.keep is not None
        try:
            self.settings.keep(landing.mail)
        except OSError as error:
            extra = {"id": landing.mail.id, "reason": str(error)}
            log.warning("the copy of a mail could not be kept", extra=extra)
            self._finishing.discard(landing.seq)
            self._schedule.add(landing.seq, time.time() + self.settings.first)
            return False
        return True

    def removed(self, landing: DoneMail) -> None:
        """This mail is gone from the spool: tidy up after it."""
        self._finishing.discard(landing.seq)
        for each in landing.landed:
            each.settle()
        path = landing.mail.content.path
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    # -- further attempts --------------------------------------------------------------------

    def recorded(self, step: Progress) -> None:
        """A run is written down: settle what landed, then finish, schedule or answer."""
        self._runs.done(step.seq)
        mail = step.mail
        if mail is None:
            if step.retry_after is not None:
                self._schedule.add(step.seq, time.time() + step.retry_after)
            return
        if step.item is not None and not step.item.settled and all_dead(step):
            self._forget(step.seq, mail, traces=True)
            self._answer(step.item, refused(step.outcomes))
            return
        for outcome in step.outcomes:
            if outcome.state is State.DEAD:
                self._observer.dead_letter(outcome.owed.flow, outcome.label)
        landed = tuple(o.landed for o in step.outcomes if o.landed is not None)
        if step.finished:
            self._finish([DoneMail(step.seq, mail, landed)], traces=True)
        else:
            for each in landed:
                each.settle()
            if not step.parked:
                self._schedule.add(step.seq, step.due)
        if step.item is not None:
            self._answer(step.item, accepted(step.item))
        self._start_due()

    def _start_due(self) -> None:
        while self._runs.has_room and not self._stopping:
            seq = self._schedule.pop()
            if seq is None:
                self._schedule.set_alarm()
                return
            if not self._runs.holds(seq):
                self._runs.launch(seq, None, None, (), 0, None)

    def _look_around(self) -> None:
        """See what `deadletter` changed beside us, and sweep every few minutes."""
        now = self._loop.time()
        db = self._commits.store.db
        version = db.execute("PRAGMA data_version").fetchone()[0]
        sweep = now >= self._next_sweep
        if version == self._data_version and not sweep:
            return
        self._data_version = version
        for seq in self._part.due(db, time.time()):
            if not (self._runs.holds(seq) or seq in self._schedule or seq in self._finishing):
                self._schedule.add(seq, time.time())
        if sweep:
            self._next_sweep = now + self.settings.sweep
            self._report(db)

    def _report(self, db: sqlite3.Connection) -> None:
        unfinished, oldest = db.execute(
            "SELECT count(*), min(received) FROM mail WHERE parked = 0"
        ).fetchone()
        dead = db.execute("SELECT count(*) FROM dead").fetchone()[0]
        age = max(0.0, time.time() - oldest / 1000) if oldest else None
        self._observer.backlog(age, unfinished, dead)
        if unfinished or dead:
            extra = {"unfinished": unfinished, "dead": dead, "oldest_seconds": round(age or 0.0)}
            log.info("sweep", extra=extra)


def _quick(owed: Owed) -> bool:
    return owed.output is not None and owed.output.processor.quick


def _endless() -> float:
    return float("inf")
