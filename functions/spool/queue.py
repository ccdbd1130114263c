"""The mails that wait in a spool, as a person sees them: why each waits, and until when.

Folders, S3 and Cloud Storage share one interface; `functions.backends` chooses by the spool.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from functions.spool.dead_record import DeadRecord

QueueState = Literal["waiting", "parked", "unreadable"]


class Failure(BaseModel):
    """The last failed attempt at one output of an unfinished mail. `at` is Unix time in milliseconds;
    `attempts` counts the runs over the mail so far."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    key: str
    """The output key."""
    flow: str
    output: str
    reason: str
    code: str
    """RFC 3463 enhanced status code."""
    at: int
    attempts: int = 1
    in_doubt: bool = False
    """True if the call got no answer: its effect may have happened."""


class QueuedMail(BaseModel):
    """One mail in the spool. Times are Unix milliseconds.

    `state` is `waiting` if an output has yet to be tried (again), `parked` if every output is done or
    given up, `unreadable` if the row or object is not a mail. `attempts` and `next` are None where the
    spool does not know them (a bucket). `under_way` says that an effect was begun and its result is
    not recorded: an attempt is being made, or its process died."""

    model_config = ConfigDict(frozen=True)

    id: str
    state: QueueState
    received: int | None = None
    reverse_path: str = ""
    recipients: tuple[str, ...] = ()
    flows: tuple[str, ...] = ()
    size: int | None = None
    attempts: int | None = None
    next: int | None = None
    """When the next attempt is due; 0 if now."""
    failures: tuple[Failure, ...] = ()
    dead: tuple[DeadRecord, ...] = ()
    under_way: bool = False

    def summary(self) -> dict[str, Any]:
        """The mail as plain JSON values."""
        return self.model_dump(mode="json")


class MailQueue(Protocol):
    """The mails of one spool. Methods raise Temporary if the spool cannot be reached, Permanent if it
    refuses."""

    owned: bool | None
    """True if a server is running on this spool; None if that cannot be seen from here."""

    def ids(self, *, parked: bool = True) -> Iterator[tuple[str, int]]:
        """Id of each mail, with or without the parked ones, and when it was received (Unix milliseconds),
        oldest first if that costs nothing."""

    def mails(self, ids: Iterable[str] | None = None, *, claims: bool = False) -> Iterator[QueuedMail]:
        """All mails, or those of these ids. With `claims` it finds out what is under way."""

    def retry(self, ids: Iterable[str] | None) -> list[str]:
        """Make these mails due now, or all that wait, in a running server too; returns the ids of those
        that are. Parked mails stay as they are. Raises ConfigError if this spool has no such way."""

    def buried(self, mail_id: str) -> list[DeadRecord]:
        """The dead records of a mail, also after the mail is gone."""
