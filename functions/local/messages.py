"""What the parts of the local delivery hand to one another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from functions.delivery.engine import Outcome, State
from functions.errors import Damaged, Permanent
from functions.message.envelope import Envelope
from functions.message.mail import Content, Mail
from functions.processors.base import Placed
from functions.spool.dead_record import DeadRecord


class SpoolReply(NamedTuple):
    """What the client is to be told: RFC 5321 code, RFC 3463 enhanced status code, text."""

    code: int
    enhanced: str
    text: str


@dataclass(slots=True, eq=False)
class Item:
    """One mail on its way into the spool. `answered` is called once."""

    envelope: Envelope
    content: Content
    answered: Callable[[SpoolReply], None]
    submitted: float = field(default_factory=time.monotonic)
    seq: int = 0
    committed: bool = False
    """The mail is durable."""
    settled: bool = False
    """An answer was given."""
    cancelled: bool = False
    """The answer was that the client must keep the mail."""

    def discard(self) -> None:
        """Remove the file of a mail that is not taken."""
        if self.content.path is not None:
            with contextlib.suppress(OSError):
                self.content.path.unlink()


class DoneMail(NamedTuple):
    """A mail whose outputs are all done; each tells what it left to be done around the receipt."""

    seq: int
    mail: Mail
    outcomes: Sequence[Outcome]

    @property
    def placed(self) -> list[Placed]:
        """What the outputs left."""
        return [outcome.placed for outcome in self.outcomes if outcome.placed is not None]


@dataclass(slots=True)
class Finished:
    """Mails to be removed: their deliveries are durable. `traces` says that they may have settled
    outputs or receipts."""

    mails: list[DoneMail]
    traces: bool = False


@dataclass(slots=True)
class Progress:
    """What a run over an unfinished mail brought, to be written down. Without a mail the run found
    none, or broke; `retry_after` then says whether to try again."""

    seq: int
    mail: Mail | None
    attempts: int
    outcomes: Sequence[Outcome]
    finished: bool = False
    parked: bool = False
    retry_after: float | None = None
    item: Item | None = None
    wait: float = 0.0
    """Seconds until the next attempt, set when the run is written down."""
    given_up: DeadRecord | None = None
    """The mail cannot be read, or kept: it is parked as a whole."""


class Write(NamedTuple):
    """A receipt to be made durable; `done` is told then, with an error when it failed. With `insist`
    it is written again until it did not fail, before anything that was asked for later."""

    statement: str
    values: tuple[Any, ...]
    done: Callable[[Exception | None], None]
    insist: bool = False


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


def accepted(item: Item) -> SpoolReply:
    """The mail is safe."""
    return SpoolReply(250, "2.0.0", f"OK queued as {item.envelope.id}")


def refused(outcomes: Sequence[Outcome]) -> SpoolReply:
    """Every output failed for good. The client may try again where the spool's own copy is damaged."""
    if is_damaged(outcomes):
        return SpoolReply(451, "4.3.0", "The mail could not be stored, try again later")
    fault = outcomes[0].fault
    enhanced = fault.enhanced if fault is not None and fault.enhanced.startswith("5") else "5.3.0"
    return SpoolReply(554, enhanced, "No output can take this mail")


def is_damaged(outcomes: Sequence[Outcome]) -> bool:
    """Whether an output could not have the mail because the spool's own copy is damaged."""
    return any(isinstance(outcome.fault, Damaged) for outcome in outcomes)


def all_dead(step: Progress) -> bool:
    """Whether the client of a first run keeps its mail: what was stored of it is damaged, or every output
    refused it for all recipients. What some of them got already, or may have got, cannot be refused any
    more."""
    refused_by_all = step.parked and all(
        o.state is State.DEAD and isinstance(o.fault, Permanent) and not o.fault.recipients
        for o in step.outcomes
    )
    return refused_by_all or is_damaged(step.outcomes)
