"""In-process delivery: the local spool and its delivery, driven by the event loop.

All mails of one fsync are committed together. Then the loop runs their `quick` outputs (file, log) and
answers the clients; a later commit removes them. Other outputs, and every further attempt, run in a pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from functions.delivery.engine import Delivery, Outcome, State, Task, dead_record, mail_record
from functions.delivery.events import DeliveryEvents
from functions.delivery.receipts import tell_given_up
from functions.errors import Damaged, Permanent
from functions.local.attempts import Attempts, FirstTry
from functions.local.bodies import Bodies
from functions.local.commits import Commits
from functions.local.flusher import Flusher
from functions.local.layout import Part
from functions.local.messages import (
    DoneMail,
    Finished,
    Item,
    Progress,
    Settings,
    SpoolReply,
    accepted,
    all_dead,
    is_damaged,
    refused,
)
from functions.local.receipts import ReceiptBook
from functions.local.runs import Runs, tell_retries
from functions.local.schedule import HeldMails, Schedule, Trials
from functions.local.sweep import Sweeper
from functions.message.envelope import Envelope
from functions.message.mail import Content, Mail
from functions.spool.dead_record import DeadRecord

log = logging.getLogger("smtp_relay.delivery")

LATE: Final = SpoolReply(451, "4.3.0", "The mail could not be stored in time, try again later")

PARTING: Final = 1.0
"""Seconds at the end in which interrupted outputs record their results."""


class LocalDelivery:
    """Owns one part of the local spool and delivers its mails.

    All methods run in the event loop that called `start`, except the pool's runs and the syncs.
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
        self._commits.retention.use(delivery)
        receipts = ReceiptBook(part, self._commits.put)
        self._flusher: Flusher | None = None
        self._trials = Trials()
        self._attempts = Attempts(delivery, receipts, self._trials, settings, self._observer)
        self.unspooled: Callable[[Envelope, Content], FirstTry | None] = self._attempts.unspooled
        """Delivers a mail at once, without the spool, if its outputs allow that. With outcomes it must be
        submitted, and these with it."""
        self._runs = Runs(part, delivery, self._attempts.attempt, self._commits.put, settings)
        self._bodies = Bodies(part, self._commits, self._observer, self._answer)
        self._schedule = Schedule(self._start_due)
        self._unanswered: dict[str, Item] = {}
        self._finishing: set[int] = set()
        self._held = HeldMails()
        self._left: list[Path] | None = None
        self._sweeper = Sweeper(part, self._observer)
        self._stopping = False
        self.health_changed: Callable[[], None] = lambda: None
        """Called when `healthy` changes."""

    @property
    def healthy(self) -> bool:
        """True if the last commit worked, and no sync failed since the spool was rebuilt."""
        return self._commits.healthy

    @property
    def staging(self) -> Path:
        """The folder in which outputs may keep temporary files."""
        return self._part.staging

    def start(self) -> None:
        """Open the part and schedule the mails that a crash left, once it may be read. Raises ConfigError."""
        self._loop = asyncio.get_running_loop()
        self._part.create()
        self._flusher = Flusher(self._commits.put) if self.settings.durable else None
        self._left = self._part.bodies()
        self._commits.start()

    def opened(self) -> None:
        """The database may be read, for the first time or again."""
        if self._left is None:
            # Known mails are rescheduled; unknown ones are found by looking into the database.
            self._sweeper.forget()
            self._start_due()
            return
        db = self._commits.store.db
        orphans = self._part.remove_orphans(db, self._left)
        self._left = None
        left = self._part.waiting(db)
        if left or orphans:
            log.info("taking up the spool", extra={"unfinished": len(left), "orphans": orphans})
        for seq in left:
            # A restart is a good moment for an attempt, whatever the next one's time was.
            self._schedule.add_in(seq, 0.0)
        self._start_due()

    def condemn(self, mail: Mail, settled: set[str], reason: str) -> list[DeadRecord]:
        """The dead records of a mail that is damaged in the spool."""
        fault = Permanent(reason, enhanced="5.3.0")
        tasks = [one for one in self._delivery.tasks(mail.envelope) if one.key not in settled]
        return [dead_record(mail, Outcome(one, State.DEAD, fault), 0, time.time()) for one in tasks]

    def submit(self, item: Item) -> None:
        """Store and deliver one mail; `item.answered` is called once, in the event loop."""
        if item.tried and (is_damaged(item.tried) or all(o.state is State.DEAD for o in item.tried)):
            # The client still has the mail, and the reply gives the reason.
            item.discard()
            self._answer(item, refused(item.tried))
            return
        self._unanswered[item.envelope.id] = item
        path = item.content.path
        if path is not None and self.settings.durable and not self._commits.distrusted:
            # The row must not exist before its body.
            self._bodies.add(item, path)
        else:
            self._commits.add(item)

    def replace(self, delivery: Delivery, settings: Settings) -> None:
        """Use other outputs and retry settings; durability stays. Runs under way keep the old ones."""
        self._delivery = delivery
        self.settings = dataclasses.replace(settings, durable=self.settings.durable)
        self._attempts.replace(delivery, self.settings)
        self._runs.replace(delivery, self.settings)
        self._held.wake(self._runs.paces, self._schedule, every=True)
        self._commits.retention.use(delivery)

    async def stop(self, timeout: float = 30.0) -> int:
        """Finish the present work and stop; unfinished mails stay in the spool.

        Returns how many runs are still held up in their threads: their results will not be known.
        """
        self._stopping = True
        deadline = self._loop.time() + timeout
        await self._settle_until(deadline)
        # An output that waits for a server is interrupted, and then records its undone parts and doubts.
        await self._loop.run_in_executor(None, self._delivery.close)
        await self._settle_until(self._loop.time() + PARTING)
        self._schedule.cancel()
        self._runs.stop()
        if self._flusher is not None:
            await self._loop.run_in_executor(None, self._flusher.stop)
        self._bodies.stop()
        self._commits.close()
        return self._runs.running

    async def _settle_until(self, deadline: float) -> None:
        while self._busy() and self._loop.time() < deadline:
            await asyncio.sleep(0.01)

    def _busy(self) -> bool:
        return bool(self._unanswered or self._commits.busy or self._finishing or self._runs.in_flight)

    def tick(self) -> None:
        """Called each second: answer clients after `wait`, and see other processes' changes."""
        if self._unanswered:
            late = time.monotonic() - self.settings.wait
            for item in [i for i in self._unanswered.values() if i.submitted < late]:
                self._too_late(item)
        if not (self._stopping or self._commits.syncing or self._commits.distrusted):
            try:
                self._look_around()
            except sqlite3.Error as error:
                log.error("the spool cannot be read", extra={"reason": str(error)})

    def _too_late(self, item: Item) -> None:
        if item.committed:
            # The mail is safe; only its outputs are slow.
            self._answer(item, accepted(item))
            return
        item.cancelled = True
        if self._commits.withdraw(item):
            item.discard()
        self._answer(item, LATE)

    def _answer(self, item: Item, answer: SpoolReply) -> None:
        if not item.settled:
            item.settled = True
            self._unanswered.pop(item.envelope.id, None)
            done = [outcome.label for outcome in item.tried if outcome.state is State.DONE]
            if done and answer.code >= 400:
                # The client's next try repeats these.
                extra = {"id": item.envelope.id, "outputs": ",".join(done), "reply": answer.code}
                log.warning("outputs took a mail that its client keeps", extra=extra)
            item.answered(answer)

    # -- first attempts ----------------------------------------------------------------------

    def rejected(self, item: Item, answer: SpoolReply) -> None:
        """This mail could not be stored."""
        item.abandon()
        self._answer(item, answer)

    def withdrawn(self, seq: int) -> None:
        """This mail was stored, perhaps not durably, and is being taken back."""
        self._finishing.add(seq)

    def written(self, items: list[Item]) -> None:
        """These mails are being made durable: begin their outputs meanwhile."""
        self._attempts.begin(items)

    def stored(self, items: list[Item]) -> None:
        """These mails are durable: deliver them."""
        placed: list[DoneMail] = []
        now = time.time()
        for item in items:
            try:
                self._deliver_first(item, placed, now)
            except Exception:
                # The mail is safe in the spool: a later run takes it up.
                log.exception("fault in a first delivery", extra={"id": item.envelope.id})
                self._schedule.add_in(item.seq, self.settings.first)
                self._answer(item, accepted(item))
        if placed:
            self._finish(placed)

    def _deliver_first(self, item: Item, placed: list[DoneMail], now: float) -> None:
        mail, tasks = item.begun or (Mail(item.envelope, item.content, received_here=True), None)
        if item.cancelled:
            # The client got a reply that makes it keep the mail.
            item.abandon()
            self._forget(item.seq, mail)
            return
        item.committed = True
        tasks = tasks or self._delivery.tasks(item.envelope)
        stuck = self._flusher is not None and self._flusher.stuck
        quick = [] if stuck else tasks if item.tried else self._attempts.quick(tasks)
        attempt, shared = self._attempts.attempt, len(tasks) > 1
        outcomes = item.tried or [attempt(mail, o, item.seq, now, shared) for o in quick]
        item.files = [path for o in outcomes if (path := o.file) is not None]
        if len(outcomes) == len(tasks) and all(o.state is State.DONE for o in outcomes):
            placed.append(DoneMail(item.seq, mail, outcomes))
            self._answer(item, accepted(item))
        elif is_damaged(outcomes) and not item.settled:
            # The client keeps the whole mail.
            self._forget(item.seq, mail, outcomes)
            self._answer(item, refused(outcomes))
        elif len(quick) < len(tasks):
            self._deliver_rest(item, mail, tasks, outcomes)
        elif all(o.state is State.DEAD for o in outcomes) and not item.settled:
            # The client still has the mail, and the reply gives the reason.
            self._forget(item.seq, mail)
            self._answer(item, refused(outcomes))
        else:
            self._answer(item, accepted(item))
            self._runs.take(item.seq)
            self._commits.put(self._runs.summary(item.seq, mail, tasks, outcomes, 1, {}, None))

    def _deliver_rest(self, item: Item, mail: Mail, tasks: list[Task], outcomes: Sequence[Outcome]) -> None:
        """The pool runs the other outputs; the reply waits for local or `waitFor` ones."""
        done = {id(outcome.task) for outcome in outcomes}
        left = [o for o in tasks if id(o) not in done]
        awaited = self.settings.wait_for_all or any(task.quick for task in left)
        if not awaited:
            self._answer(item, accepted(item))
            if not self._runs.has_room:
                # It waits in the spool, not in memory.
                self._runs.take(item.seq)
                self._commits.put(self._runs.summary(item.seq, mail, tasks, outcomes, 0, {}, None))
                return
        self._runs.launch(item.seq, mail, tasks, outcomes, item if awaited else None)

    def _forget(
        self, seq: int, mail: Mail, outcomes: Sequence[Outcome] = (), *, traces: bool = False
    ) -> None:
        """Remove a mail that the client keeps."""
        self._finishing.add(seq)
        self._commits.put(Finished([DoneMail(seq, mail, outcomes)], traces))

    def _finish(self, mails: list[DoneMail], *, traces: bool = False) -> None:
        """Every output of these mails is done: keep a copy if configured, flush, then remove."""
        self._finishing.update(done_mail.seq for done_mail in mails)
        if self.settings.keep is not None:
            mails = [done_mail for done_mail in mails if self._kept(done_mail)]
        done = Finished(mails, traces)
        if self._flusher is not None and any(done_mail.placed for done_mail in mails):
            self._flusher.put(done)
        elif mails:
            self._commits.put(done)

    def _kept(self, done_mail: DoneMail) -> bool:
        assert self.settings.keep is not None
        try:
            self.settings.keep(done_mail.mail)
        except OSError as error:
            extra = {"id": done_mail.mail.id, "reason": str(error)}
            log.warning("the copy of a mail could not be kept", extra=extra)
            self._schedule.add_in(done_mail.seq, self.settings.first)
        except Damaged as fault:
            envelope = done_mail.mail.envelope
            record = mail_record(envelope.id, fault, attempts=1, first=envelope.received, now=time.time())
            self._commits.put(Progress(done_mail.seq, None, 1, (), given_up=record))
        else:
            return True
        self._finishing.discard(done_mail.seq)
        return False

    def removed(self, done_mail: DoneMail) -> None:
        """This mail is gone from the spool: tidy up after it."""
        self._finishing.discard(done_mail.seq)
        self._trials.forget(done_mail.seq)
        for each in done_mail.placed:
            each.cleanup()
        path = done_mail.mail.stored.path
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    # -- further attempts --------------------------------------------------------------------

    def recorded(self, step: Progress) -> None:
        """A run is recorded: settle the placed files, then finish, schedule or answer."""
        self._runs.done(step.seq)
        mail = step.mail
        if step.parked or mail is None:
            self._trials.forget(step.seq)
        elif not step.finished and (step.attempts or step.waits):
            self._trials.note(step.seq)
        if mail is None:
            if step.given_up is not None:
                tell_given_up(self._observer, step.given_up)
            elif step.retry_after is not None:
                self._schedule.add_in(step.seq, step.retry_after)
            return
        if step.item is not None and not step.item.settled and all_dead(step):
            self._forget(step.seq, mail, step.outcomes, traces=True)
            self._answer(step.item, refused(step.outcomes))
            return
        for outcome in step.outcomes:
            if outcome.state is State.DEAD:
                self._observer.dead_letter(outcome.task.flow, outcome.label)
        tell_retries(step, in_doubt=False)
        done_mail = DoneMail(step.seq, mail, step.outcomes)
        if step.finished:
            self._finish([done_mail], traces=True)
        else:
            self._finishing.discard(step.seq)
            for each in done_mail.placed:
                each.cleanup()
            if not step.parked:
                self._schedule.add_in(step.seq, step.wait)
                self._held.note(step)
        if step.item is not None:
            self._answer(step.item, accepted(step.item))
        self._start_due()

    def _start_due(self) -> None:
        self._held.wake(self._runs.paces, self._schedule)
        while self._runs.has_room and not (self._stopping or self._commits.distrusted):
            seq = self._schedule.pop()
            if seq is None:
                self._schedule.set_alarm()
                return
            if not self._runs.holds(seq):
                self._runs.launch(seq, None, None, (), None)

    def _look_around(self) -> None:
        if self._part.trust.lost:
            self._commits.distrust(OSError("another process noted it"))
            return
        for seq, asked in self._sweeper.look(self._commits.store.db, self._loop.time(), self.settings):
            if not (self._runs.holds(seq) or (seq in self._schedule and not asked) or seq in self._finishing):
                self._runs.paces.forget(seq)
                self._schedule.add_in(seq, 0.0)
        self._start_due()
