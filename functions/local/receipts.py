"""Receipts of the local spool: rows written before and after an effect."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from functions.delivery.engine import State, Task
from functions.delivery.receipts import ABANDONED, Done, Later, Receipts, Tell
from functions.errors import DeliveryFault, HeldBack, Temporary
from functions.local.layout import Part
from functions.local.messages import Progress, Write
from functions.message.mail import Mail
from functions.processors.base import Once
from functions.spool.dead_record import UNKNOWN
from functions.spool.queue import Failure

CLAIMED = "claimed"
DONE = "done"

PATIENCE: Final = 30.0
"""Seconds that an effect waits for its claim to be durable."""

_CLAIM: Final = "INSERT OR REPLACE INTO receipt (key, seq, state) VALUES (?, ?, ?)"
_DONE: Final = "UPDATE receipt SET state = ?, result = ? WHERE key = ?"
_FREE: Final = "DELETE FROM receipt WHERE key = ?"

_DROP: Final = "DELETE FROM receipt WHERE seq = ? AND state = ?"
_FAILED: Final = "INSERT OR REPLACE INTO failure (seq, key, record) VALUES (?, ?, ?)"

_State = tuple[str | None, str | None]


def note_failures(db: sqlite3.Connection, step: Progress, now: float) -> None:
    """Write why outputs of a run failed, for people, and forget the claims of doubts: the run is over.
    In the caller's transaction; `now` is Unix time."""
    for task, state, fault, *_ in step.outcomes:
        if fault is None or step.mail is None or isinstance(fault, HeldBack):
            continue
        in_doubt = isinstance(fault, Temporary) and fault.in_doubt
        if in_doubt:
            db.execute(_DROP, (step.seq, CLAIMED))
        if state is State.RETRY and step.attempts:
            failure = Failure(
                id=step.mail.id,
                key=task.key,
                flow=task.flow,
                output=UNKNOWN if task.output is None else task.output.label,
                reason=fault.reason,
                code=fault.enhanced,
                at=int(now * 1000),
                attempts=step.attempts,
                in_doubt=in_doubt,
            )
            db.execute(_FAILED, (step.seq, task.key, failure.model_dump_json()))


class ReceiptBook:
    """Writes the receipts of one part of the spool; shared by its delivery threads.

    This object remembers how an effect ended until the database holds it, however long that takes.
    So a disk that is full between an effect and its receipt causes neither a doubt nor a repeated
    effect.
    """

    def __init__(self, part: Part, put: Callable[[Write], None]) -> None:
        self._part = part
        self._put = put
        self._known: dict[str, _State] = {}

    def once(self, mail: Mail, task: Task, seq: int) -> Once:
        """The receipts of one output; none if it is safe to repeat, because the end of its run is recorded.
        The claim of a doubt stays until the run is recorded (`note_failures`), so a process that dies before
        it announced the doubt leaves it, and the effect is not repeated unannounced."""
        if task.output is not None and task.output.terms.repeatable:
            return lambda part, effect: effect()
        return partial(LocalReceipts(self, seq).run_part, mail, task, [])

    def find(self, key: str) -> _State:
        """A receipt's state and result; the state is None if there is no receipt. Raises Temporary."""
        known = self._known.get(key)
        if known is not None:
            return known
        try:
            with contextlib.closing(self._part.connect()) as db:
                row = db.execute("SELECT state, result FROM receipt WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise Temporary(f"the receipt could not be read: {error}") from error
        if row is None:
            return None, None
        return row[0], row[1] if isinstance(row[1], str) else None

    def claim(self, key: str, seq: int) -> None:
        """Make a claim durable. Raises Temporary if that failed; then there is no claim."""
        try:
            self._wait_for(_CLAIM, (key, seq, CLAIMED))
        except Temporary:
            # It may have been written, or may yet be written.
            self.free(key)
            raise

    def free(self, key: str) -> None:
        """Nothing took effect: forget the claim, as soon as that can be written."""
        self._note(key, (None, None), _FREE, (key,))

    def done(self, key: str, result: str | None) -> None:
        """The effect took place: write the receipt as soon as possible."""
        self._note(key, (DONE, result), _DONE, (DONE, result, key))

    def _note(self, key: str, state: _State, statement: str, values: tuple[Any, ...]) -> None:
        self._known[key] = state
        self._put(Write(statement, values, partial(self._written, key, state), insist=True))

    def _written(self, key: str, state: _State, error: Exception | None) -> None:
        if self._known.get(key) is state:
            del self._known[key]

    def _wait_for(self, statement: str, values: tuple[Any, ...]) -> None:
        ready = threading.Event()
        errors: list[Exception] = []

        def written(error: Exception | None) -> None:
            if error is not None:
                errors.append(error)
            ready.set()

        self._put(Write(statement, values, written))
        if not ready.wait(PATIENCE):
            raise Temporary("the receipt could not be written in time")
        if errors:
            raise Temporary(f"the receipt could not be written: {errors[0]}")


class LocalReceipts(Receipts):
    """The receipts of one mail in the local spool. An existing claim means that the process died in
    between: the effect is in doubt, and is repeated in a later run or given up, as `onDoubt` says."""

    fruitless: ClassVar[type[Exception]] = DeliveryFault

    def __init__(self, book: ReceiptBook, seq: int) -> None:
        super().__init__(give_up_doubts=True)
        self._book = book
        self._seq = seq

    def _claim(self, key: str, tell: Tell, later: Later) -> Done | None:
        state, result = self._book.find(key)
        if state == DONE:
            return Done(result)
        if state is not None:
            raise Temporary(ABANDONED, in_doubt=True)
        self._book.claim(key, self._seq)
        return None

    def _done(self, key: str, result: str | None) -> None:
        self._book.done(key, result)

    def _give_back(self, key: str, claim: Any) -> None:
        self._book.free(key)
