"""Attempts at the outputs of one part's mails: timed and counted. Slow local outputs are noted."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from functions.delivery.engine import Delivery, Outcome, Output, State, Task
from functions.delivery.events import DeliveryEvents
from functions.local.messages import Item, Settings
from functions.local.receipts import ReceiptBook
from functions.local.runs import count_failure
from functions.local.schedule import LocalWitness, Trials
from functions.message.envelope import Envelope
from functions.message.mail import Content, Mail
from functions.processors.base import Begun

log = logging.getLogger("smtp_relay.delivery")

SLOW: Final = 0.1
"""Seconds after which a quick output counts as slow if it happens twice within HICCUP, because on a
busy machine it happens once to any output. The output then runs in the pool for a while, because a slow
folder must not hold up the event loop."""

HICCUP: Final = 5.0

HANGING: Final = 1.0
"""Seconds after which once is enough."""

SLOW_FOR: Final = 60.0

_SETS: Final = 1_024
"""Most sets of flows whose outputs are remembered."""


class SlowOutputs:
    """Records which quick outputs are slow. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._hiccups: dict[int, float] = {}
        self.any = False
        """True if an output was ever slow."""

    def counts(self, task: Task, now: float) -> bool:
        """True if the output counts as slow."""
        return self._until.get(id(task.output), 0.0) > now

    def took(self, task: Task, label: str, seconds: float, now: float) -> None:
        """An attempt took longer than SLOW."""
        place = id(task.output)
        before = self._hiccups.get(place)
        self._hiccups[place] = now
        if seconds < HANGING and (before is None or now - before > HICCUP):
            return
        if not self.counts(task, now):
            log.warning("a local output is slow", extra={"output": label, "seconds": round(seconds, 3)})
        self._until[place] = now + SLOW_FOR
        self.any = True


class FirstTry(NamedTuple):
    """The attempts at all outputs of a mail that no spool has: the files that they made, and the outcomes,
    unless all are done."""

    files: Sequence[str]
    outcomes: Sequence[Outcome]


class Attempts:
    """Tries outputs. `attempt` may be called in any thread."""

    def __init__(
        self,
        delivery: Delivery,
        receipts: ReceiptBook,
        trials: Trials,
        settings: Settings,
        observer: DeliveryEvents,
    ) -> None:
        self._receipts = receipts
        self._trials = trials
        self._observer = observer
        self._slow = SlowOutputs()
        self.replace(delivery, settings)

    def replace(self, delivery: Delivery, settings: Settings) -> None:
        """Use other outputs and settings from the next attempt on."""
        self._delivery = delivery
        self._settings = settings
        self._unspooled: dict[tuple[str, ...], tuple[tuple[str, Output], ...]] = {}

    def attempt(self, mail: Mail, task: Task, seq: int, now: float, shared: bool) -> Outcome:
        """One attempt at one output of a mail in the spool; `shared` says if other outputs have yet to
        read the mail, `now` is Unix time."""
        if task.begun is not None:
            begun, task.begun = task.begun, None
            if (finished := self._finished(mail, task, *begun)) is not None:
                return finished
        started = time.perf_counter()
        delivery = self._delivery
        once = self._receipts.once(mail, task, seq)
        witness = LocalWitness(self._trials, seq, mail.envelope.received, self._settings.longest)
        shared = shared or self._settings.keep is not None
        outcome = delivery.attempt(mail, task, once, now=now, witness=witness, shared=shared)
        if outcome.placed is not None and (placed := getattr(outcome.placed, "placed", None)) is not None:
            placed()
        self._note(mail, outcome, time.perf_counter() - started)
        return outcome

    def begin(self, items: Iterable[Item]) -> None:
        """Do the first half of the outputs of mails that are being made durable. It may come to nothing."""
        for item in items:
            if item.content.path is not None or item.tried or item.cancelled or self._slow.any:
                continue
            mail = Mail(item.envelope, item.content, received_here=True)
            item.begun = mail, (tasks := self._delivery.tasks(item.envelope))
            for task in tasks:
                if task.output is None:
                    continue
                started = time.perf_counter()
                with suppress(Exception):  # the attempt tells what is wrong
                    if (begun := task.output.processor.begin(mail, task.flow)) is not None:
                        task.begun = begun, time.perf_counter() - started

    def _finished(self, mail: Mail, task: Task, begun: Begun, seconds: float) -> Outcome | None:
        """The outcome of an output that was begun; None if it has to start anew."""
        started = time.perf_counter() - seconds
        try:
            placed = begun.finish()
        except Exception:  # noqa: BLE001 - the attempt that follows tells what is wrong
            return None
        if (sealed := getattr(placed, "placed", None)) is not None:
            sealed()
        outcome = Outcome(task, State.DONE, None, placed)
        self._note(mail, outcome, time.perf_counter() - started)
        return outcome

    def quick(self, tasks: list[Task]) -> list[Task]:
        """The outputs that run in the event loop now."""
        quick = [task for task in tasks if task.quick]
        if self._slow.any:
            now = time.monotonic()
            quick = [task for task in quick if not self._slow.counts(task, now)]
        return quick

    def unspooled(self, envelope: Envelope, content: Content) -> FirstTry | None:
        """One attempt at each output of a mail that no spool has. None is made if an output needs the
        spool, or is slow, or if what is done must survive a power loss."""
        settings = self._settings
        if settings.durable or settings.keep is not None or envelope.refused or self._slow.any:
            return None
        flows = envelope.flows()
        outputs = self._unspooled.get(flows)
        if outputs is None:
            outputs = self._remember(flows)
        if not outputs:
            return None
        mail = Mail(envelope, content, received_here=True)
        shared = len(outputs) > 1
        watched = log.isEnabledFor(logging.DEBUG)
        files: list[str] = []
        faults: dict[int, Outcome] = {}
        for index, (flow, output) in enumerate(outputs):
            started = time.perf_counter()
            try:
                if content.path is not None:
                    mail.check()
                if (path := output.processor.place(mail, flow, shared=shared)) is not None:
                    files.append(path)
            except Exception as error:  # noqa: BLE001 - it becomes the outcome
                task = Task(envelope, flow, output)
                faults[index] = self._delivery.failed(mail, task, error, envelope.received / 1000)
                self._note(mail, faults[index], time.perf_counter() - started)
                continue
            seconds = time.perf_counter() - started
            if watched or seconds > SLOW:
                self._note(mail, Outcome(Task(envelope, flow, output), State.DONE), seconds)
            else:
                self._observer.output_done(flow, output.label, "delivered", seconds)
        if not faults:
            return FirstTry(files, ())
        done = [Outcome(Task(envelope, *pair), State.DONE) for pair in outputs]
        return FirstTry(files, [faults.get(index, outcome) for index, outcome in enumerate(done)])

    def _remember(self, flows: tuple[str, ...]) -> tuple[tuple[str, Output], ...]:
        """The outputs of these flows; none if one of them needs the spool."""
        known = self._delivery.flows
        pairs = tuple((flow, output) for flow in flows for output in known.get(flow, ()))
        if not all(flow in known for flow in flows) or any(one.processor.needs_spool for _, one in pairs):
            pairs = ()
        if len(self._unspooled) >= _SETS:
            self._unspooled.clear()
        self._unspooled[flows] = pairs
        return pairs

    def _note(self, mail: Mail, outcome: Outcome, seconds: float) -> None:
        """Count an attempt, and log what is not as it should be."""
        task = outcome.task
        delivered = outcome.state is State.DONE
        self._observer.output_done(task.flow, outcome.label, "delivered" if delivered else "error", seconds)
        if seconds > SLOW and task.quick:
            self._slow.took(task, outcome.label, seconds, time.monotonic())
        if not delivered:
            count_failure(self._observer, mail, outcome)
        elif log.isEnabledFor(logging.DEBUG):
            log.debug("output done", extra={"id": mail.id, "flow": task.flow, "output": outcome.label})
