"""Delivery: runs each output of a mail once, and says how each ended.

This module is between the triggers (Lambda, Cloud Run function, in-process) and the processors, and
knows neither. `Ledger` hides where the record of a mail's outputs is kept, so this module is the
same for a folder, S3 and Cloud Storage (docs/concepts.md).
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, Protocol

from functions.delivery.terms import DEFAULT_TERMS, OVERDUE, Gate, Terms, Waits
from functions.errors import Damaged, DeliveryFault, Permanent, Temporary
from functions.message.envelope import Envelope
from functions.message.mail import Mail
from functions.processors.base import MIN_SECONDS_LEFT, Begun, Job, Once, Placed, Processor
from functions.spool.dead_record import UNKNOWN, DeadRecord

log = logging.getLogger("smtp_relay.delivery")

SKEW: Final = 3600.0
"""Seconds in which a flow that this configuration does not know may still be deployed."""

ENVELOPE: Final = "envelope"
"""Takes the place of the output key in the record of a mail that cannot be read, or kept, as a whole."""


class State(Enum):
    """The state of one output of one mail."""

    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Output:
    """One configured output: `label` for people and metrics, `identity` for receipts."""

    label: str
    identity: str
    processor: Processor
    terms: Terms = DEFAULT_TERMS
    gate: Gate = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gate", Gate(self.processor, self.terms.concurrency))


class Task:
    """One output to run for one mail; None if this configuration does not know the flow. `begun` is the first
    half of its work, if that was done, and the seconds that it took."""

    __slots__ = ("_envelope", "_key", "begun", "flow", "output")

    def __init__(self, envelope: Envelope, flow: str, output: Output | None) -> None:
        self._envelope = envelope
        self.flow = flow
        self.output = output
        self._key = ""
        self.begun: tuple[Begun, float] | None = None

    @property
    def quick(self) -> bool:
        """True if the output runs in the event loop (`Processor.quick`)."""
        return self.output is not None and self.output.processor.quick

    @property
    def key(self) -> str:
        """The output key (`output_key`), computed on first use, because most mails never need it."""
        if not self._key:
            identity = UNKNOWN if self.output is None else self.output.identity
            self._key = output_key(self._envelope, self.flow, identity)
        return self._key


class Outcome(NamedTuple):
    """How one attempt at an output ended. `placed` is the work left before and after the receipt, `left`
    the seconds until the output is given up."""

    task: Task
    state: State
    fault: DeliveryFault | None = None
    placed: Placed | None = None
    left: float = math.inf

    @property
    def label(self) -> str:
        return self.task.output.label if self.task.output else UNKNOWN

    @property
    def file(self) -> str | None:
        """The path of the file that the output made of the mail, None if it made none."""
        output = self.task.output
        return None if output is None or self.placed is None else output.processor.file_of(self.placed)


@dataclass(frozen=True, slots=True)
class Report:
    """How one run over a mail ended: the outcomes of the outputs attempted in this run."""

    outcomes: tuple[Outcome, ...]
    finished: bool
    """Every output is done."""
    parked: bool
    """True if every output is done or dead, and at least one is dead."""
    retry_after: float | None = field(default=None)
    """The longest wait, in seconds, that a provider asked for."""

    def wait(self, attempts: int, waits: Waits) -> float:
        """Seconds until the next run, after so many attempts: the longest wait of the failed outputs."""
        failed = (one for one in self.outcomes if one.state is State.RETRY)
        return max((wait_after(one, attempts, waits) for one in failed), default=0.0)


class Ledger(Protocol):
    """The record of one mail's outputs in one spool."""

    def settled(self, mail: Mail) -> Mapping[str, State]:
        """Output key to DONE or DEAD, for the outputs known to be settled."""

    def once(self, mail: Mail, task: Task) -> Once:
        """Receipts of one output."""

    def done(self, mail: Mail, outcome: Outcome) -> None:
        """An output took effect."""

    def bury(self, mail: Mail, record: DeadRecord) -> None:
        """Write the record of an output that is given up, create-only."""


class Witness(Protocol):
    """A second source, beside this machine's wall clock, for how long a mail has waited: a clock may be
    wrong, so it never gives up a mail alone. Durations are in seconds. It is asked only once the clock
    says that the time is over."""

    def waited(self, seconds: float) -> bool:
        """True if the mail has been in the spool, or has been tried, for longer than that."""

    def older(self, seconds: float) -> bool:
        """True if the mail was received longer ago than that."""


def output_key(envelope: Envelope, flow: str, identity: str, part: str = "") -> str:
    """The key of an effect: 32 hex characters of a hash over mail, replay, flow, output and part."""
    text = "\0".join((envelope.id, str(envelope.replay), flow, identity, part))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def endless() -> float:
    """The seconds left of a run without a deadline."""
    return math.inf


class Delivery:
    """Runs the outputs of every flow for each mail.

    `give_up_after` is in seconds. `in_doubt` says what becomes of a call without an answer:
    "resend" or "dead-letter".
    """

    def __init__(
        self,
        flows: Mapping[str, Sequence[Output]],
        *,
        give_up_after: float = 259_200.0,
        on_doubt: str = "resend",
    ) -> None:
        self.flows = {name: tuple(outputs) for name, outputs in flows.items()}
        self._give_up_after = give_up_after
        self._on_doubt = on_doubt

    @property
    def gives_up_doubts(self) -> bool:
        """True if a call without an answer becomes a dead record."""
        return self._on_doubt == "dead-letter"

    def close(self) -> None:
        """Release the processors' resources."""
        for outputs in self.flows.values():
            for output in outputs:
                output.processor.close()

    def tasks(self, envelope: Envelope) -> list[Task]:
        """Every output of every flow that took the mail."""
        tasks: list[Task] = []
        for flow in envelope.flows():
            outputs = self.flows.get(flow)
            if outputs is None:
                tasks.append(Task(envelope, flow, None))
                continue
            tasks += [Task(envelope, flow, output) for output in outputs]
        return tasks

    def attempt(
        self,
        mail: Mail,
        task: Task,
        once: Once,
        *,
        now: float,
        seconds_left: Callable[[], float] = endless,
        witness: Witness | None = None,
        shared: bool = False,
    ) -> Outcome:
        """Try one output once. Never raises: every fault becomes an outcome. `now` is Unix time in seconds.
        Without a `witness` it is believed. `shared` is that of `Job`."""
        if seconds_left() < MIN_SECONDS_LEFT:
            # This is not an attempt, so a lack of time never gives a mail up, whatever its age.
            return Outcome(task, State.RETRY, Temporary("too little of the run is left", enhanced="4.4.7"))
        try:
            if task.output is None:
                raise self._unknown(mail, task, now, witness)
            placed = self._process(task.output, mail, task, once, seconds_left, shared)
            return Outcome(task, State.DONE, placed=placed)
        except Exception as error:  # noqa: BLE001 - it becomes the outcome
            return self.failed(mail, task, error, now, witness)

    def failed(
        self, mail: Mail, task: Task, error: Exception, now: float, witness: Witness | None = None
    ) -> Outcome:
        """The outcome of an attempt that ended with this error; called while it is handled."""
        fault: DeliveryFault
        if isinstance(error, DeliveryFault):
            fault = error
            in_doubt = isinstance(error, Temporary) and error.in_doubt and self.gives_up_doubts
            if in_doubt or isinstance(error, Permanent):
                return Outcome(task, State.DEAD, error)
        else:
            # Any exception of a library is worth a retry and a traceback.
            extra = {"id": mail.id, "flow": task.flow, "key": task.key}
            log.exception("unexpected fault in an output", extra=extra)
            fault = Temporary(f"{type(error).__name__}: {error}")
        # A mail received in the future was received under a wrong clock, so the witness decides.
        away = abs(now - mail.envelope.received / 1000)
        end = self._give_up_after
        if task.output is not None and task.output.terms.give_up_after is not None:
            end = task.output.terms.give_up_after
        if isinstance(fault, Temporary) and fault.give_up_after is not None:
            end = min(end, fault.give_up_after)
        if away > end and (witness is None or witness.waited(end)):
            return Outcome(task, State.DEAD, fault)
        return Outcome(task, State.RETRY, fault, left=end - away)

    def _process(
        self,
        output: Output,
        mail: Mail,
        task: Task,
        once: Once,
        seconds_left: Callable[[], float],
        shared: bool,
    ) -> Placed | None:
        job = Job(mail, task.flow, mail.envelope.recipients_of(task.flow), once, seconds_left, shared)
        if not output.processor.quick:
            job = job._replace(key=task.key, peers=self.flows[task.flow])
        try:
            mail.check()
        except Damaged as damage:
            if output.processor.quick:
                if (placed := output.processor.taken(job)) is None:
                    raise
                return placed
            # Receipts say what took effect while the mail was whole. No new effect is started.
            job = job._replace(once=_without_effects(once, damage))
        if output.processor.quick:
            return output.processor.process(job)
        with output.gate.passed():
            return output.processor.process(job)

    def _unknown(self, mail: Mail, task: Task, now: float, witness: Witness | None) -> DeliveryFault:
        """The fault for a flow that this configuration does not know."""
        reason = f"this configuration has no flow {task.flow!r}"
        if abs(now - mail.envelope.received / 1000) > SKEW and (witness is None or witness.older(SKEW)):
            return Permanent(reason, enhanced="5.3.5")
        return Temporary(reason, enhanced="4.3.5")

    def deliver(
        self,
        mail: Mail,
        ledger: Ledger,
        *,
        attempts: int,
        now: float,
        seconds_left: Callable[[], float],
        witness: Witness | None = None,
    ) -> Report:
        """One run, after so many `attempts`: tries every output that is not settled. One output's
        failure never blocks another.

        Writes receipts and dead records through the ledger. Exceptions come from the ledger and
        mean that the run must be repeated.
        """
        settled = dict(ledger.settled(mail))
        outcomes: list[Outcome] = []
        everything = self.tasks(mail.envelope)
        for task in everything:
            if task.key in settled:
                continue
            once = ledger.once(mail, task)
            outcome = self.attempt(mail, task, once, now=now, seconds_left=seconds_left, witness=witness)
            if outcome.state is State.DONE:
                if outcome.placed is not None:
                    outcome.placed.fsync()
                ledger.done(mail, outcome)
                if outcome.placed is not None:
                    outcome.placed.cleanup()
            elif outcome.state is State.DEAD:
                ledger.bury(mail, dead_record(mail, outcome, attempts + 1, now))
            if outcome.state is not State.RETRY:
                settled[task.key] = outcome.state
            outcomes.append(outcome)
        return report(everything, settled, outcomes)


def _without_effects(once: Once, fault: DeliveryFault) -> Once:
    def refuse() -> str | None:
        raise fault

    return lambda part, effect: once(part, refuse)


def report(everything: Sequence[Task], settled: Mapping[str, State], outcomes: Sequence[Outcome]) -> Report:
    """Sum a run up."""
    states = [settled.get(task.key) for task in everything]
    finished = all(state is State.DONE for state in states)
    parked = not finished and all(state is not None for state in states)
    waits = [o.fault.retry_after for o in outcomes if isinstance(o.fault, Temporary) and o.fault.retry_after]
    return Report(tuple(outcomes), finished, parked, max(waits, default=None))


def dead_record(mail: Mail, outcome: Outcome, attempts: int, now: float) -> DeadRecord:
    """The record of an output that is given up."""
    assert outcome.fault is not None
    envelope = mail.envelope
    ms = int(now * 1000)
    return DeadRecord(
        id=mail.id,
        key=outcome.task.key,
        flow=outcome.task.flow,
        output=outcome.label,
        reason=outcome.fault.reason,
        code=outcome.fault.enhanced,
        attempts=attempts,
        first=envelope.received,
        last=ms,
        replay=envelope.replay,
        recipients=outcome.fault.recipients or envelope.recipients_of(outcome.task.flow),
        reverse_path=envelope.reverse_path,
    )


def mail_record(mail_id: str, fault: DeliveryFault, *, attempts: int, first: int, now: float) -> DeadRecord:
    """The record of a mail that is given up as a whole. `first` is Unix time in milliseconds."""
    return DeadRecord(
        id=mail_id,
        key=ENVELOPE,
        flow="",
        output=UNKNOWN,
        reason=fault.reason,
        code=fault.enhanced,
        attempts=attempts,
        first=first,
        last=int(now * 1000),
    )


def backoff(attempts: int, *, first: float = 30.0, longest: float = 900.0) -> float:
    """Seconds before the next attempt, after `attempts` of them: doubling, with jitter.

    The wait lies between half and all of the doubled value, because mails that failed together must
    not all come back together.
    """
    doubled: float = min(longest, first * 2 ** max(0, min(attempts - 1, 30)))
    return doubled * (0.5 + random.random() / 2)  # noqa: S311 - jitter, not a secret


def wait_after(outcome: Outcome, attempts: int, waits: Waits) -> float:
    """Seconds until the next attempt at an output, after so many attempts that failed: by its own waits,
    else by these, and as long as its provider asked for. No wait goes beyond the time when the output is
    given up; later, while there is no second source for that time, none is longer than the longest, nor than
    OVERDUE."""
    output, fault = outcome.task.output, outcome.fault
    own = waits if output is None or output.terms.waits is None else output.terms.waits
    asked = 0.0 if fault is None else fault.retry_after or 0.0
    wait = max(backoff(attempts, first=own.first, longest=own.longest), asked)
    return min(wait, outcome.left + 0.1 if outcome.left > 0 else min(own.longest, OVERDUE))


def utc(seconds: float) -> str:
    """A Unix time for logs, as `2026-01-02T03:04:05Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
