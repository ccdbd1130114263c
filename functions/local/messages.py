"""The messages between the parts of the local delivery."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from functions.delivery.engine import Outcome, State, Task
from functions.delivery.terms import Waits
from functions.errors import Damaged, Permanent
from functions.message.envelope import Envelope
from functions.message.mail import Content, Mail
from functions.processors.base import Placed
from functions.spool.dead_record import DeadRecord


class _ReplyParts(NamedTuple):
    code: int
    enhanced: str
    text: str


class SpoolReply(_ReplyParts):
    """The reply to the client: RFC 5321 code, RFC 3463 enhanced status code, text. `files` are the paths
    of those that the first attempts made of the mail, for logs."""

    files: Sequence[str] = ()


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
    """True if the client was answered."""
    files: Sequence[str] = ()
    """`SpoolReply.files`."""
    tried: Sequence[Outcome] = ()
    """The first attempts at all outputs, if they were made before the mail came to the spool."""
    cancelled: bool = False
    """True if the answer was that the client must keep the mail."""
    begun: tuple[Mail, list[Task]] | None = None
    """The mail and its outputs, if some were begun while the mail was made durable."""

    def discard(self) -> None:
        """Remove the file of a mail that is not accepted."""
        discard(self.content)

    def abandon(self) -> None:
        """Undo what was begun."""
        for task in () if self.begun is None else self.begun[1]:
            if task.begun is not None:
                task.begun[0].discard()
        self.begun = None


def discard(content: Content) -> None:
    """Remove the file of a mail that the spool does not keep, if it has one."""
    if content.path is not None:
        with contextlib.suppress(OSError):
            content.path.unlink()


class DoneMail(NamedTuple):
    """A mail whose outputs are all done; each outcome holds the work left before and after the receipt."""

    seq: int
    mail: Mail
    outcomes: Sequence[Outcome]

    @property
    def placed(self) -> list[Placed]:
        """The work that the outputs left."""
        return [outcome.placed for outcome in self.outcomes if outcome.placed is not None]


@dataclass(slots=True)
class Finished:
    """Mails to be removed: their deliveries are durable. `traces` says that they may have settled
    outputs or receipts."""

    mails: list[DoneMail]
    traces: bool = False


@dataclass(slots=True)
class Progress:
    """The results of a run over an unfinished mail, to be recorded. Without a mail the run found none,
    or broke; `retry_after` then says if there is another attempt."""

    seq: int
    mail: Mail | None
    attempts: int
    outcomes: Sequence[Outcome]
    finished: bool = False
    parked: bool = False
    retry_after: float | None = None
    item: Item | None = None
    wait: float = 0.0
    """Seconds until the next attempt."""
    waits: Mapping[str, float] = field(default_factory=dict)
    """The same for each output that failed, by its key."""
    given_up: DeadRecord | None = None
    """True if the mail cannot be read, or kept: it is parked as a whole."""


class Write(NamedTuple):
    """A receipt to be made durable; `done` is called then, with an error if that failed. With `insist`
    it is written again until it succeeds, before any message that came later."""

    statement: str
    values: tuple[Any, ...]
    done: Callable[[Exception | None], None]
    insist: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of local delivery; seconds throughout (`delivery` in docs/configuration.md)."""

    durable: bool = True
    wait: float = 10.0
    wait_for_all: bool = False
    first: float = 30.0
    longest: float = 900.0
    sweep: float = 300.0
    threads: int = 8
    """For outputs that wait for a network peer."""
    keep: Callable[[Mail], None] | None = None
    """Copies a finished mail to the path of `keepCache`, durably."""

    @property
    def waits(self) -> Waits:
        """The waits between attempts at an output that has none of its own."""
        return Waits(self.first, self.longest)


class Owner(Protocol):
    """The listener of the commits' events, called in the event loop."""

    settings: Settings

    def written(self, items: list[Item]) -> None:
        """These mails are in the spool, and are being made durable in another thread."""

    def stored(self, items: list[Item]) -> None:
        """These mails are durable."""

    def rejected(self, item: Item, answer: SpoolReply) -> None:
        """This mail could not be stored."""

    def removed(self, done_mail: DoneMail) -> None:
        """This mail is gone from the spool, durably."""

    def recorded(self, step: Progress) -> None:
        """This run is recorded, durably."""

    def withdrawn(self, seq: int) -> None:
        """This mail was stored, perhaps not durably, and is being taken back."""

    def opened(self) -> None:
        """The database can be read, from now on or again."""

    def condemn(self, mail: Mail, settled: set[str], reason: str) -> list[DeadRecord]:
        """The dead records of a mail damaged in the spool, for its unsettled outputs. Any thread."""

    def health_changed(self) -> None:
        """`Commits.healthy` changed."""


def accepted(item: Item) -> SpoolReply:
    """The mail is safe."""
    reply = SpoolReply(250, "2.0.0", f"OK queued as {item.envelope.id}")
    reply.files = item.files
    return reply


def refused(outcomes: Sequence[Outcome]) -> SpoolReply:
    """Every output failed for good. The client may try again if the spool's own copy is damaged."""
    if is_damaged(outcomes):
        return SpoolReply(451, "4.3.0", "The mail could not be stored, try again later")
    fault = outcomes[0].fault
    enhanced = fault.enhanced if fault is not None and fault.enhanced.startswith("5") else "5.3.0"
    return SpoolReply(554, enhanced, "No output can take this mail")


def is_damaged(outcomes: Sequence[Outcome]) -> bool:
    """True if an output could not read the mail because the spool's own copy is damaged."""
    return any(isinstance(outcome.fault, Damaged) for outcome in outcomes)


def all_dead(step: Progress) -> bool:
    """True if the client of a first run keeps its mail: the stored copy is damaged, or every output
    refused it for all recipients. If some recipients have the mail, or may have it, it cannot be
    refused any more."""
    refused_by_all = step.parked and all(
        o.state is State.DEAD and isinstance(o.fault, Permanent) and not o.fault.recipients
        for o in step.outcomes
    )
    return refused_by_all or is_damaged(step.outcomes)
