"""Outputs that were given up: list, replay and drop them (docs/operations.md).

One interface for folders, S3 and Cloud Storage; `functions.backends` chooses by the spool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from functions.message.envelope import Envelope
from functions.spool.dead_record import DeadRecord


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead records are meant: those that fit everything given. Times are Unix milliseconds of
    the last attempt, `since` inclusive, `until` exclusive; `reason` is looked for in reason and
    code, without regard to case. `ids` are mail ids, or `ID/OUTPUTKEY`."""

    since: int | None = None
    until: int | None = None
    flow: str | None = None
    output: str | None = None
    reason: str | None = None
    ids: tuple[str, ...] = ()

    def takes(self, record: DeadRecord) -> bool:
        """Whether a record is meant."""
        return (
            (self.since is None or record.last >= self.since)
            and (self.until is None or record.last < self.until)
            and self.flow in (None, record.flow)
            and self.output in (None, record.output)
            and (self.reason is None or self.reason.casefold() in f"{record.reason} {record.code}".casefold())
            and (not self.ids or record.id in self.ids or f"{record.id}/{record.key}" in self.ids)
        )


@dataclass(frozen=True, slots=True)
class KeptSelection:
    """Which kept mails are meant: those that fit everything given. Times are Unix milliseconds of
    when the mail came in, `since` inclusive, `until` exclusive; `prefix` is how the copy's key below
    `kept/` begins, or its path below the working folder."""

    since: int | None = None
    until: int | None = None
    prefix: str = ""

    def takes(self, received: int) -> bool:
        """Whether a mail that came in then is meant."""
        return (self.since is None or received >= self.since) and (
            self.until is None or received < self.until
        )


class Shown(NamedTuple):
    """A dead record with its mail; `envelope` is None when the mail is gone, `head` its first
    octets (the header, at most 64 KiB)."""

    record: DeadRecord
    envelope: Envelope | None
    head: bytes


class DeadLetters(Protocol):
    """The dead records of one spool. Every method raises Temporary when the spool cannot be
    reached, Permanent when it refuses."""

    def list(self, selection: Selection) -> Iterator[DeadRecord]:
        """The records meant, oldest mail first where that costs nothing."""

    def show(self, record: DeadRecord) -> Shown:
        """One record with its mail."""

    def replay(self, record: DeadRecord, *, now: bool) -> None:
        """Delete the record, so that the output is owed again; the sweep delivers, or with `now` a
        doorbell is rung."""

    def kept(self, selection: KeptSelection) -> Iterator[str]:
        """The ids of the kept mails meant, oldest first."""

    def replay_kept(self, mail_id: str, *, now: bool) -> int:
        """Write a kept mail back with its replay number raised, and return that number. One that is
        being replayed already stays as it is: asking twice is asking once. Raises Permanent when no
        such mail is kept."""

    def drop(self, record: DeadRecord) -> None:
        """Give the output up for good: the record goes, and the mail with its last one."""

    def close(self) -> None:
        """Release connections."""
