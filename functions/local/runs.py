"""Delivery runs in the pool: outputs that wait for a network peer, and every further attempt."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from functions.delivery.engine import (
    Delivery,
    Outcome,
    State,
    Task,
    mail_record,
    report,
    utc,
    wait_after,
)
from functions.delivery.events import DeliveryEvents
from functions.delivery.terms import Paces
from functions.errors import HeldBack, Permanent, Temporary
from functions.local.flusher import flushed
from functions.local.layout import Part, Row, UnreadableRow
from functions.local.messages import Finished, Item, Progress, Settings, Write
from functions.message.mail import Mail

log = logging.getLogger("smtp_relay.delivery")

IN_FLIGHT: Final = 64
"""Mails handed to the pool at once, if it has fewer threads; the others wait in the spool, not in memory."""

BROKEN: Final = 30.0
"""Seconds before a run that broke is repeated."""

UNREADABLE: Final = 5.0
"""Seconds before a run that could not read the spool is repeated."""

_MANY: Final = 64  # attempts after which each wait is the longest

Attempt = Callable[[Mail, Task, int, float, bool], Outcome]
"""The last argument says if other outputs have yet to read the mail."""

Put = Callable[[Finished | Progress | Write], None]


class Runs:
    """The pool and its mails. All methods except the runs themselves belong to the loop."""

    def __init__(
        self, part: Part, delivery: Delivery, attempt: Attempt, put: Put, settings: Settings
    ) -> None:
        self._part = part
        self._delivery = delivery
        self._attempt = attempt
        self._put = put
        self._durable = settings.durable
        self._waits = settings.waits
        self.paces = Paces()
        self._most = max(IN_FLIGHT, settings.threads)
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="delivery")
        self._held: set[int] = set()
        self._running: set[int] = set()

    @property
    def running(self) -> int:
        """The number of runs in a thread now."""
        return len(self._running)

    @property
    def in_flight(self) -> int:
        """The number of mails in work."""
        return len(self._held)

    @property
    def has_room(self) -> bool:
        """True if another mail from the spool may be taken up."""
        return len(self._held) < self._most

    def holds(self, seq: int) -> bool:
        """True if that mail is in work."""
        return seq in self._held

    def take(self, seq: int) -> None:
        """Mark a mail as in work outside the pool."""
        self._held.add(seq)

    def done(self, seq: int) -> None:
        """The run over a mail is recorded."""
        self._held.discard(seq)

    def replace(self, delivery: Delivery, settings: Settings) -> None:
        """Use other outputs and waits from the next run on."""
        self._delivery = delivery
        self._waits = settings.waits

    def stop(self) -> None:
        """Start no more runs, and wait for none."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def launch(
        self,
        seq: int,
        mail: Mail | None,
        tasks: Sequence[Task] | None,
        outcomes: Sequence[Outcome],
        item: Item | None,
    ) -> None:
        """Start a run over one mail: given with its earlier outcomes, or by its number."""
        self._held.add(seq)
        self._pool.submit(self._run, seq, mail, tasks, tuple(outcomes), item)

    def _run(
        self,
        seq: int,
        mail: Mail | None,
        tasks: Sequence[Task] | None,
        before: tuple[Outcome, ...],
        item: Item | None,
    ) -> None:
        attempts = 0
        self._running.add(seq)
        try:
            settled: dict[str, State] = {}
            if mail is None:
                with contextlib.closing(self._part.connect()) as db:
                    row = self._part.load(db, seq)
                    if row is None:
                        self._put(Progress(seq, None, 0, ()))
                        return
                    settled = _settled(db, row)
                mail, attempts = row.mail, row.attempts
            tasks = self._delivery.tasks(mail.envelope) if tasks is None else tasks
            tried = {outcome.task.key for outcome in before}
            now = time.time()
            outcomes = list(before)
            # A dead output may be replayed, and an output done just now may have to be written
            # again.
            shared = sum(settled.get(each.key) is not State.DONE for each in tasks) > 1
            for each in tasks:
                if each.key not in settled and each.key not in tried and self.paces.due(seq, each.key):
                    outcomes.append(self._attempt(mail, each, seq, now, shared))
            attempts += any(not isinstance(outcome.fault, HeldBack) for outcome in outcomes)
            self._put(self.summary(seq, mail, tasks, outcomes, attempts, settled, item))
        except UnreadableRow as row:
            fault = Permanent(str(row), enhanced="5.6.0")
            attempts, now = row.attempts + 1, time.time()
            first = int(now * 1000) if row.received is None else row.received
            record = mail_record(row.mail_id, fault, attempts=attempts, first=first, now=now)
            self._put(Progress(seq, None, attempts, (), given_up=record))
        except sqlite3.Error as error:
            log.warning("the spool cannot be read", extra={"seq": seq, "reason": str(error)})
            self._put(Progress(seq, None, attempts, (), retry_after=UNREADABLE, item=item))
        except Exception:
            log.exception("fault in a delivery run", extra={"seq": seq})
            self._put(Progress(seq, None, attempts, (), retry_after=BROKEN, item=item))
        finally:
            self._running.discard(seq)

    def summary(
        self,
        seq: int,
        mail: Mail,
        tasks: Sequence[Task],
        outcomes: Sequence[Outcome],
        attempts: int,
        settled: dict[str, State],
        item: Item | None,
    ) -> Progress:
        """Sum a run up; its placed files are made durable before it is recorded."""
        if self._durable:
            outcomes = [flushed(mail, outcome) for outcome in outcomes]
        states = settled | {o.task.key: o.state for o in outcomes if o.state is not State.RETRY}
        sum_ = report(tasks, states, outcomes)
        progress = Progress(seq, mail, attempts, outcomes, sum_.finished, sum_.parked, item=item)
        if not (sum_.finished or sum_.parked):
            failed = {o.task.key: self._next(seq, o, attempts) for o in outcomes if o.state is State.RETRY}
            left = frozenset(task.key for task in tasks if task.key not in states)
            progress.waits = {key: wait for key, (_, wait) in failed.items()}
            progress.wait = self.paces.note(seq, failed, left)
        else:
            self.paces.forget(seq)
        # Before the record, after which a process that dies would repeat the effect.
        tell_retries(progress, in_doubt=True)
        return progress

    def _next(self, seq: int, outcome: Outcome, attempts: int) -> tuple[int, float]:
        """The attempts at an output that failed, this one included, and the seconds until the next."""
        before = self.paces.attempts(seq, outcome.task.key, max(0, attempts - 1))
        if isinstance(outcome.fault, HeldBack):
            # Room wakes the mail. Without it the mail is looked at after the longest wait, and at its end.
            return before, wait_after(outcome, _MANY if outcome.left > 0 else 1, self._waits)
        return before + 1, wait_after(outcome, before + 1, self._waits)


def _settled(db: sqlite3.Connection, row: Row) -> dict[str, State]:
    """The states of the outputs that are done or dead. Raises UnreadableRow, because another attempt at
    an output that may be done could repeat it."""
    found = list(db.execute("SELECT key, state FROM settled WHERE seq = ?", (row.seq,)))
    try:
        return {key: State(state) for key, state in found}
    except ValueError as error:
        envelope = row.mail.envelope
        reason = f"the state of an output cannot be read: {error}"
        raise UnreadableRow(envelope.id, envelope.received, row.attempts, reason) from error


def count_failure(observer: DeliveryEvents, mail: Mail, outcome: Outcome) -> None:
    """Count an attempt that did not succeed, and log it if the output is given up."""
    fault = outcome.fault
    assert fault is not None
    if isinstance(fault, Temporary) and fault.in_doubt:
        observer.in_doubt(outcome.task.flow, outcome.label)
    if isinstance(fault, Temporary) and fault.no_login:
        observer.no_login(outcome.task.flow, outcome.label)
    if outcome.state is State.RETRY:
        observer.retry(outcome.task.flow, outcome.label)
    else:
        log.error("output given up", extra=_about(mail, outcome))


def tell_retries(step: Progress, *, in_doubt: bool) -> None:
    """Log each output of a run that is tried again, with the number of the attempt that failed and the time
    of the next one: those in doubt, or the others."""
    assert step.mail is not None
    for outcome in step.outcomes:
        doubtful = isinstance(outcome.fault, Temporary) and outcome.fault.in_doubt
        held_back = isinstance(outcome.fault, HeldBack)
        if outcome.state is State.RETRY and not held_back and doubtful is in_doubt:
            wait = step.waits.get(outcome.task.key, step.wait)
            when = {"attempt": max(1, step.attempts), "next": utc(time.time() + wait)}
            log.warning("output failed, will be tried again", extra=_about(step.mail, outcome) | when)


def _about(mail: Mail, outcome: Outcome) -> dict[str, Any]:
    fault = outcome.fault
    assert fault is not None
    flags = ("in_doubt", "no_login")
    set_ = {name: True for name in flags if isinstance(fault, Temporary) and getattr(fault, name)}
    return {
        "id": mail.id,
        "flow": outcome.task.flow,
        "output": outcome.label,
        "code": fault.enhanced,
        "reason": fault.reason,
        **set_,
    }
