"""Runs one spooled mail from a bucket: read, deliver, record, delete.

It is the same for S3 and Cloud Storage. The spool object records that a mail is unfinished, `dead/`
records the outputs that were given up, and each cloud's own `Receipts` record the effects.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

from functions.bucket.marks import (
    Marks,
    clear_marks,
    dead_folder,
    parked_name,
    read_marks,
    spooled_id,
)
from functions.bucket.store import ObjectStore, Times
from functions.delivery.engine import (
    ENVELOPE,
    SKEW,
    Delivery,
    Outcome,
    Report,
    State,
    Task,
    mail_record,
    utc,
)
from functions.delivery.events import DeliveryEvents
from functions.delivery.receipts import Later, Receipts, tell_doubt, tell_given_up
from functions.delivery.terms import Waits
from functions.errors import Damaged, DeliveryFault, Permanent, Temporary
from functions.ids import uuid7_ms
from functions.message.envelope import Envelope, UnknownEnvelope
from functions.message.mail import BytesContent, Mail
from functions.processors.base import Once
from functions.spool.dead_record import DeadRecord, refused_records
from functions.spool.object import CONTENT_TYPE, dead_key, encode_object, kept_key, split_object

log: Final = logging.getLogger("smtp_relay.delivery")

JSON: Final = "application/json"

TOO_LATE: Final = "4.4.7"
"""RFC 3463 section 3.5, delivery time expired: the code if too little of the run is left."""


FRESH: Final = 60.0
"""Seconds for which a mail's own event finds no marks that an earlier run, or a person, left."""


class RunResult(Enum):
    """How the run for one notification ended."""

    FINISHED = "finished"
    PARKED = "parked"
    LATER = "later"
    GONE = "gone"
    """The mail is finished: its object does not exist (any more)."""
    FOREIGN = "foreign"
    """The key is not a key of the spool."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run over one mail. `wait` is the time, in seconds, until the outputs are due again, and
    `retry_after` the least wait that a provider asked for; `cut_short` says that only time was lacking,
    so the next run may start at once."""

    result: RunResult
    report: Report | None = None
    retry_after: float | None = None
    cut_short: bool = False
    wait: float | None = None


class BucketRunner:
    """One spool bucket and the outputs that deliver from it. May be used by several threads."""

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        delivery: Delivery,
        receipts: Receipts,
        *,
        keep: bool = False,
        observer: DeliveryEvents | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.prefix = prefix
        self._delivery = delivery
        self._receipts = receipts
        self._keep = keep
        self._observer = observer or DeliveryEvents()
        self._clock = clock

    def replace(self, delivery: Delivery) -> None:
        """Use other outputs."""
        self._delivery = delivery

    def close(self) -> None:
        """Release the outputs' resources. An output that waits for a server is interrupted."""
        self._delivery.close()

    def run(
        self,
        key: str,
        *,
        attempts: int,
        seconds_left: Callable[[], float],
        stored: bool = False,
        waits: Waits | None = None,
    ) -> Run:
        """Run the unfinished outputs of the mail under `key`. `attempts` is the number of known
        attempts before this one; `stored` says that the store itself sent the notification, and not the
        sweep or a person. `waits` are those between attempts, if the caller
        decides them. Never raises a DeliveryFault: an error of the bucket is retried
        later."""
        mail_id = spooled_id(key, self.prefix)
        if mail_id is None:
            return Run(RunResult.FOREIGN)
        try:
            return self._run(key, mail_id, attempts, seconds_left, stored, waits)
        except DeliveryFault as fault:
            # Whatever error the bucket reports, the mail is still unfinished.
            log.warning("the spool failed", extra={"id": mail_id, "reason": fault.reason})
            self._observer.spool_error()
            return Run(RunResult.LATER, retry_after=fault.retry_after)

    def _run(
        self,
        key: str,
        mail_id: str,
        attempts: int,
        seconds_left: Callable[[], float],
        stored: bool,
        waits: Waits | None,
    ) -> Run:
        try:
            data = self.store.read(key)
            if data is None:
                log.info("nothing to deliver", extra={"id": mail_id})
                return Run(RunResult.GONE)
            envelope, content = split_object(data)
            if envelope.id != mail_id:
                raise UnknownEnvelope(f"the envelope is that of {envelope.id[:100]}")
        except UnknownEnvelope as error:
            return self._unreadable(key, mail_id, str(error), attempts)
        except MemoryError:
            return self._unreadable(key, mail_id, "the object does not fit into memory", attempts)
        del data
        mail = Mail(envelope, BytesContent(content))
        unmarked = stored and attempts == 0 and self._is_first(envelope)
        marks = Marks() if unmarked else read_marks(self.store, self.prefix, mail_id)
        ledger = BucketLedger(self, self._receipts, marks)
        ledger.bury_refused(mail)
        report = self._delivery.deliver(
            mail,
            ledger,
            attempts=attempts,
            now=self._clock(),
            seconds_left=seconds_left,
            witness=_Provider(self.store, key, envelope.received / 1000),
        )
        again: dict[str, object] = {"attempt": attempts + 1}
        wait = None if waits is None else report.wait(attempts + 1, waits)
        if wait is not None:
            again["next"] = utc(self._clock() + wait)
        self._tell(mail, report, again)
        if report.finished:
            try:
                self._finish(key, mail, marks)
            except Damaged as fault:
                return self._give_up(mail_id, fault, attempts)
            return Run(RunResult.FINISHED, report)
        if unmarked and report.parked:
            # An event may come twice, so the mark names all dead outputs.
            marks = read_marks(self.store, self.prefix, mail_id)
        self._tidy(mail_id, marks, park=report.parked)
        if report.parked:
            log.warning("parked", extra={"id": mail_id, "dead": len(marks.dead)})
            return Run(RunResult.PARKED, report)
        faults = [o.fault for o in report.outcomes if o.state is State.RETRY and o.fault is not None]
        cut_short = all(fault.enhanced == TOO_LATE for fault in faults)
        return Run(RunResult.LATER, report, report.retry_after, cut_short, wait)

    def _is_first(self, envelope: Envelope) -> bool:
        """True if the mail cannot have marks yet, so the run skips looking for them, because that costs
        as much as the upload. An event that comes twice within this time may run outputs again that
        were given up in between. If doubts are given up, that could repeat an effect, so then the run
        looks."""
        return (
            envelope.replay == 0
            and not envelope.refused
            and not self._delivery.gives_up_doubts
            and abs(self._clock() - envelope.received / 1000) < FRESH
        )

    def look_again(self, mail: Mail, task: Task) -> None:
        """Called when an effect is claimed. Another run may have given up its doubt, and released its
        claim, after this run read the marks. Raises Temporary, because the next run reads them."""
        if not self._delivery.gives_up_doubts:
            return
        marks = read_marks(self.store, self.prefix, mail.id)
        if task.key in marks.dead or task.key in marks.dropped:
            raise Temporary("another run has given it up", enhanced="4.3.2")

    def doubt(self, mail: Mail, task: Task, part: str, reason: str) -> None:
        """The outcome of an effect is not known."""
        tell_doubt(self._observer, mail, task, part, reason)

    def bury(self, record: DeadRecord) -> None:
        """Write a dead record; an existing one stays. Raises DeliveryFault."""
        key = self.prefix + dead_key(record.id, record.key)
        if self.store.create(key, record.model_dump_json().encode(), JSON):
            tell_given_up(self._observer, record)

    def _unreadable(self, key: str, mail_id: str, reason: str, attempts: int) -> Run:
        """The object is not a mail of a schema that this version reads; a newer listener may have
        written it."""
        made = uuid7_ms(mail_id) / 1000
        if abs(self._clock() - made) < SKEW or not _Provider(self.store, key, made).older(SKEW):
            log.warning("not readable yet", extra={"id": mail_id, "reason": reason})
            return Run(RunResult.LATER)
        return self._give_up(mail_id, Permanent(reason, enhanced="5.6.0"), attempts)

    def _give_up(self, mail_id: str, fault: DeliveryFault, attempts: int) -> Run:
        """Give the whole mail up, for a reason that is not about one output; the object stays."""
        marks = read_marks(self.store, self.prefix, mail_id)
        if ENVELOPE in marks.dropped:
            return Run(RunResult.PARKED)
        if ENVELOPE not in marks.dead:
            now = self._clock()
            first = min(uuid7_ms(mail_id), int(now * 1000))
            self.bury(mail_record(mail_id, fault, attempts=attempts + 1, first=first, now=now))
            marks.dead.add(ENVELOPE)
        self._tidy(mail_id, marks, park=True)
        return Run(RunResult.PARKED)

    def _finish(self, key: str, mail: Mail, marks: Marks) -> None:
        """The order makes a crash in between harmless, because each step may be done again."""
        if self._keep:
            # The copy is replaced, not created, because it carries the number of its last replay.
            place = self.prefix + kept_key(mail.id, mail.envelope.received_at)
            self.store.replace(place, encode_object(mail.envelope, mail.content.read()), CONTENT_TYPE)
        self.store.delete(key)
        with suppress(DeliveryFault):
            clear_marks(self.store, self.prefix, mail.id, marks)
        log.info("finished", extra={"id": mail.id, "flows": ",".join(mail.envelope.flows())})

    def _tidy(self, mail_id: str, marks: Marks, *, park: bool) -> None:
        """Remove void marks; mark a mail that is parked."""
        folder = self.prefix + dead_folder(mail_id)
        valid = parked_name(marks.dead)
        for name in marks.parked - {valid}:
            self.store.delete(folder + name)
        if park and valid not in marks.parked:
            self.store.create(folder + valid, b"", "text/plain")

    def _tell(self, mail: Mail, report: Report, again: Mapping[str, object]) -> None:
        for outcome in report.outcomes:
            flow, label, fault = outcome.task.flow, outcome.label, outcome.fault
            about: dict[str, object] = {"id": mail.id, "flow": flow, "output": label}
            if isinstance(fault, Temporary) and fault.no_login:
                self._observer.no_login(flow, label)
                about["no_login"] = True
            if outcome.state is State.DONE:
                self._observer.output_done(flow, label, "delivered", 0.0)
                log.info("delivered", extra=about)
            elif outcome.state is State.RETRY and fault is not None:
                self._observer.output_done(flow, label, "error", 0.0)
                self._observer.retry(flow, label)
                log.warning("tried again later", extra={**about, "reason": fault.reason, **again})
            else:
                self._observer.output_done(flow, label, "error", 0.0)


class _Provider:
    """The second source for an object's age (`functions.delivery.engine.Witness`): its provider's own
    clock. If that clock cannot be read, nothing is given up. `received` is Unix time in seconds."""

    def __init__(self, store: ObjectStore, key: str, received: float) -> None:
        self._store = store
        self._key = key
        self._received = received

    def waited(self, seconds: float) -> bool:
        times = self._times()
        return times is not None and times.now - times.modified > seconds

    def older(self, seconds: float) -> bool:
        times = self._times()
        return times is not None and times.now - min(times.modified, self._received) > seconds

    def _times(self) -> Times | None:
        try:
            return self._store.times(self._key)
        except DeliveryFault as fault:
            log.warning("the age cannot be read", extra={"key": self._key, "reason": fault.reason})
            return None


class BucketLedger:
    """`functions.delivery.engine.Ledger` for one mail of a bucket."""

    def __init__(self, runner: BucketRunner, receipts: Receipts, marks: Marks) -> None:
        self._runner = runner
        self._receipts = receipts
        self._marks = marks
        self._later: dict[str, Later] = {}

    def settled(self, mail: Mail) -> Mapping[str, State]:
        dead = dict.fromkeys(self._marks.dead, State.DEAD)
        return dead | dict.fromkeys(self._marks.dropped, State.DONE)

    def once(self, mail: Mail, task: Task) -> Once:
        once = self._receipts.once(mail, task, self._later.setdefault(task.key, []))

        def run(part: str, effect: Callable[[], str | None]) -> str | None:
            def watched() -> str | None:
                self._runner.look_again(mail, task)
                try:
                    return effect()
                except Temporary as fault:
                    # The doubt is logged before the claim goes, because a crash may come in between.
                    if fault.in_doubt:
                        self._runner.doubt(mail, task, part, fault.reason)
                    raise

            return once(part, watched)

        return run

    def done(self, mail: Mail, outcome: Outcome) -> None:
        """Nothing to do: storing needs no receipt, and the other outputs wrote theirs."""

    def bury(self, mail: Mail, record: DeadRecord) -> None:
        self._runner.bury(record)
        self._marks.dead.add(record.key)
        for step in self._later.pop(record.key, ()):
            step()

    def bury_refused(self, mail: Mail) -> None:
        """Recipients that were refused after DATA (`partialAccept`): the listener may write only mails,
        so this code writes their records."""
        for record in refused_records(mail.envelope):
            if record.key not in self._marks.dead and record.key not in self._marks.dropped:
                self.bury(mail, record)
