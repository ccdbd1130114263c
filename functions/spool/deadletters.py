"""Outputs that were given up: list, replay and drop them (docs/operations.md).

Folders, S3 and Cloud Storage share one interface; `functions.backends` chooses by the spool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from functions.message.envelope import Envelope
from functions.spool.dead_record import DeadRecord


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects dead records: those that match every given criterion. Times are Unix milliseconds of the
    last attempt, `since` inclusive, `until` exclusive; `reason` is a part of the reason or code, in any
    case. `ids` are mail ids, or `ID/OUTPUTKEY`."""

    since: int | None = None
    until: int | None = None
    flow: str | None = None
    output: str | None = None
    reason: str | None = None
    ids: tuple[str, ...] = ()

    def takes(self, record: DeadRecord) -> bool:
        """True if a record is selected."""
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
    """Selects kept mails: those that match every given criterion. Times are Unix milliseconds of when
    the mail was received, `since` inclusive, `until` exclusive; `prefix` is the start of the copy's key
    below `kept/`, or of its path below the working folder."""

    since: int | None = None
    until: int | None = None
    prefix: str = ""

    def takes(self, received: int) -> bool:
        """True if a mail that was received then is selected."""
        return (self.since is None or received >= self.since) and (
            self.until is None or received < self.until
        )


class Shown(NamedTuple):
    """A dead record with its mail; `envelope` is None if the mail is gone, `head` its first bytes (the
    header, at most 64 KiB)."""

    record: DeadRecord
    envelope: Envelope | None
    head: bytes


class DeadLetters(Protocol):
    """The dead records of one spool. Every method raises Temporary if the spool cannot be reached,
    Permanent if it refuses."""

    def list(self, selection: Selection) -> Iterator[DeadRecord]:
        """The selected records, oldest mail first if that costs nothing."""

    def show(self, record: DeadRecord) -> Shown:
        """One record with its mail."""

    def replay(self, record: DeadRecord, *, now: bool) -> None:
        """Delete the record, so the output runs again. The sweep delivers; with `now` a notification is
        sent at once."""

    def kept(self, selection: KeptSelection) -> Iterator[str]:
        """The ids of the selected kept mails, oldest first."""

    def replay_kept(self, mail_id: str, *, now: bool) -> int:
        """Write a kept mail back with its replay number raised, and returns that number. A mail that is
        being replayed already stays as it is, so asking twice is asking once. Raises Permanent if no
        such mail is kept."""

    def drop(self, record: DeadRecord) -> None:
        """Give the output up for good: deletes the record, and the mail with its last record."""

    def close(self) -> None:
        """Release connections."""
