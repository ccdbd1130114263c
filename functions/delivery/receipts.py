"""Receipts for effects that their API would repeat: claimed before, done after, or in doubt
(docs/reliability.md). Each spool has its own store of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

from functions.delivery.engine import Task, output_key
from functions.delivery.events import DeliveryEvents
from functions.errors import DeliveryFault, Temporary
from functions.message.mail import Mail
from functions.processors.base import Once, shown, took_place
from functions.spool.dead_record import DeadRecord

log: Final = logging.getLogger("smtp_relay.delivery")

ABANDONED: Final = "an earlier run ended before it knew the outcome"
"""The reason for doubt about an effect whose claim was left behind."""

Later = list[Callable[[], None]]
Effect = Callable[[], str | None]
Tell = Callable[[str], None] | None
"""Announces the doubt about an effect, with the reason; None for an effect that is safe to repeat."""


class Done(NamedTuple):
    """The receipt of an effect that took place."""

    result: str | None


class Receipts:
    """The receipts of one spool. `give_up_doubts` is `onDoubt: "dead-letter"`."""

    fruitless: ClassVar[type[Exception]] = Exception
    """The faults that give the claim back, because no effect took place."""

    def __init__(self, *, give_up_doubts: bool = False, observer: DeliveryEvents | None = None) -> None:
        self._give_up_doubts = give_up_doubts
        self._observer = observer or DeliveryEvents()

    def once(self, mail: Mail, task: Task, later: Later) -> Once:
        """Receipts of one output. A claim whose effect is in doubt and must not be repeated stays until
        `later` is done, when the output is durably given up."""
        return partial(self.run_part, mail, task, later)

    def run_part(self, mail: Mail, task: Task, later: Later, part: str, effect: Effect) -> str | None:
        """`functions.processors.base.Once` for one part of an output."""
        assert task.output is not None  # an unknown flow has no effects
        key = self._place(mail, output_key(mail.envelope, task.flow, task.output.identity, part))
        repeatable = task.output.terms.repeatable
        tell = None if repeatable else partial(tell_doubt, self._observer, mail, task, part)
        result = self.run(key, effect, tell=tell, later=later)
        # The log comes after the receipt, because nothing may fail between an effect and its
        # receipt.
        if took_place(result):
            about = {"id": mail.id, "flow": task.flow, "output": task.output.label, "part": part}
            log.info("output done", extra=about | {"provider_id": shown(result)})
        return result

    def run(self, key: str, effect: Effect, *, tell: Tell, later: Later) -> str | None:
        """Run the effect unless the receipt under `key` exists. It calls `tell` with the reason if more
        is in doubt than the effect itself says; `later` as in `once`."""
        claim = self._claim(key, tell, later)
        if isinstance(claim, Done):
            return claim.result
        give_back = partial(self._give_back, key, claim)
        try:
            result = effect()
        except self.fruitless as fault:
            if self._keeps(fault):
                # The dead record describes the effect once it is written; a replay begins anew.
                later.append(give_back)
            else:
                give_back()
            raise
        try:
            self._done(key, result)
        except DeliveryFault as fault:
            # The claim stays: until it runs out, no run repeats the effect.
            raise self._unwritten(fault.reason, tell, later, give_back) from fault
        return result

    def _place(self, mail: Mail, key: str) -> str:
        """The key of the receipt for an output's key."""
        return key

    def _claim(self, key: str, tell: Tell, later: Later) -> Any:
        """Claim an effect durably, and return the name of the claim; Done if the effect took place.
        Raises Temporary if another run holds the claim, or if repeating must not resolve its doubt."""
        raise NotImplementedError

    def _done(self, key: str, result: str | None) -> None:
        """Write that the effect took place. Raises DeliveryFault."""
        raise NotImplementedError

    def _give_back(self, key: str, claim: Any) -> None:
        """Remove a claim: the next attempt need not wait until it runs out."""
        raise NotImplementedError

    def _keeps(self, fault: BaseException) -> bool:
        """True if a fault's claim stays until the effect is given up."""
        return self._give_up_doubts and isinstance(fault, Temporary) and fault.in_doubt

    def _unwritten(self, why: str, tell: Tell, later: Later, give_back: Callable[[], None]) -> Temporary:
        """The fault of an effect that took place and has no receipt."""
        fault = Temporary(f"no receipt could be written: {why}", in_doubt=tell is not None)
        if tell is not None:
            tell(fault.reason)
        later.append(give_back)
        return fault


def busy(seconds: float) -> Temporary:
    """Another run holds the claim; it is free after so many seconds, as far as is known."""
    return Temporary("another run works on it", enhanced="4.3.2", retry_after=seconds)


def claim_left(where: object, error: object) -> None:
    """Log that a claim could not be released; it runs out by itself."""
    log.warning("a claim could not be released", extra={"key": where, "reason": str(error)})


def tell_given_up(observer: DeliveryEvents, record: DeadRecord) -> None:
    """Count and log an output, or a mail as a whole, that is given up."""
    observer.dead_letter(record.flow, record.output)
    about = {"id": record.id, "flow": record.flow, "output": record.output}
    log.error("given up", extra=about | {"code": record.code, "reason": record.reason})


def tell_doubt(observer: DeliveryEvents, mail: Mail, task: Task, part: str, reason: str = ABANDONED) -> None:
    """Count an effect whose outcome is unknown, and log it with the mail's id."""
    label = "" if task.output is None else task.output.label
    observer.in_doubt(task.flow, label)
    about = {"id": mail.id, "flow": task.flow, "output": label, "part": part, "reason": reason}
    log.warning("in doubt", extra=about | {"in_doubt": True})
