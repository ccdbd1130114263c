"""Dead letters of a spool bucket: one code path for S3 and Cloud Storage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from functions.backends import open_spool
from functions.bucket.marks import (
    clear_marks,
    dead_folder,
    dead_name,
    kept_id,
    mail_id_of,
    parked_name,
    read_marks,
    spooled_id,
)
from functions.bucket.runner import JSON
from functions.bucket.store import ObjectStore
from functions.bucket.sweep import Notify, no_notification
from functions.config import DeliveryConfig
from functions.errors import Damaged, Permanent
from functions.ids import uuid7_ms
from functions.message.envelope import Envelope, UnknownEnvelope
from functions.message.mail import BytesContent, is_whole
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import KeptSelection, Selection, Shown
from functions.spool.object import (
    CONTENT_TYPE,
    dead_key,
    encode_object,
    kept_key,
    read_head,
    shard,
    split_object,
    spool_key,
)

HEAD: Final = 65_536
_HOURS: Final = 3  # a mail is received within hours of its id
_DAYS: Final = 8
_REFUSED: Final = re.compile(r"recipient-\d+")


def open_dead_letters(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> BucketDeadLetters:
    """The dead letters of the configuration's bucket. Raises ConfigError."""
    access = open_spool(config, folder, environ)
    return BucketDeadLetters(
        access.store, access.prefix, access.notify if config.mode == "events" else no_notification
    )


class BucketDeadLetters:
    """`functions.spool.deadletters.DeadLetters` for a bucket."""

    def __init__(self, store: ObjectStore, prefix: str, notify: Notify) -> None:
        self._store = store
        self._prefix = prefix
        self._notify = notify

    def list(self, selection: Selection) -> Iterator[DeadRecord]:
        found: list[tuple[str, str]] = []
        for folder in self._folders(selection):
            for entry in self._store.list(folder):
                name = dead_name(entry.key, self._prefix)
                if name is not None and name[1].endswith(".json"):
                    found.append((name[0], entry.key))
        for _, key in sorted(found):
            record = self._record(key)
            if record is not None and selection.takes(record):
                yield record

    def show(self, record: DeadRecord) -> Shown:
        key = self._find(record)
        start = self._store.read(key, 2 * HEAD) if key is not None else None
        if start is None:
            return Shown(record, None, b"")
        try:
            head = read_head(start)
        except UnknownEnvelope:
            return Shown(record, None, start[:HEAD])
        if head is None:
            return Shown(record, None, b"")
        return Shown(record, head.envelope, start[head.offset : head.offset + HEAD])

    def replay(self, record: DeadRecord, *, now: bool) -> None:
        if _REFUSED.fullmatch(record.key):
            raise Permanent("the recipient was refused: there is nothing to deliver")
        key = self._find(record)
        if key is None:
            raise Permanent("the mail is not in the spool: this record cannot be replayed")
        self._store.delete(self._prefix + dead_key(record.id, record.key))
        if now:
            self._notify([key])

    def kept(self, selection: KeptSelection) -> Iterator[str]:
        folders = [""] if selection.prefix else _days(selection)
        for folder in folders:
            found: list[tuple[int, str]] = []
            for entry in self._store.list(f"{self._prefix}kept/{folder or selection.prefix}"):
                mail_id = kept_id(entry.key, self._prefix)
                if mail_id is not None and selection.takes(uuid7_ms(mail_id)):
                    found.append((uuid7_ms(mail_id), mail_id))
            yield from (mail_id for _, mail_id in sorted(found))

    def replay_kept(self, mail_id: str, *, now: bool) -> int:
        kept = self._find_kept(mail_id)
        if kept is None:
            raise Permanent(f"no mail {mail_id} is kept")
        envelope, content = kept
        if not is_whole(envelope, BytesContent(content)):
            raise Damaged(f"the copy of {mail_id} that is kept")
        again = envelope.model_copy(update={"replay": envelope.replay + 1})
        key = self._prefix + spool_key(mail_id, envelope.received_at)
        if not self._store.create(key, encode_object(again, content), CONTENT_TYPE):
            # The mail is being delivered: asking twice for a replay gives one replay.
            there = self._store.read(key)
            again = _split(there)[0] if there is not None else again
        if now:
            self._notify([key])
        return again.replay

    def drop(self, record: DeadRecord) -> None:
        marks = read_marks(self._store, self._prefix, record.id)
        was_parked = marks.is_parked
        folder = self._prefix + dead_folder(record.id)
        text = record.model_dump_json().encode()
        self._store.create(f"{folder}{record.key}.dropped", text, JSON)
        marks.dead.discard(record.key)
        marks.dropped.add(record.key)
        key = self._find(record)
        if key is not None and was_parked and marks.dead:
            # A parked mail stays, because other outputs still need it.
            self._store.create(folder + parked_name(marks.dead), b"", "text/plain")
        self._store.delete(f"{folder}{record.key}.json")
        if key is None or (was_parked and not marks.dead):
            if key is not None:
                self._store.delete(key)
            if not marks.dead:
                clear_marks(self._store, self._prefix, record.id, marks)

    def close(self) -> None:
        """There is nothing to release."""

    def _folders(self, selection: Selection) -> Iterator[str]:
        if not selection.ids:
            yield f"{self._prefix}dead/"
            return
        for text in dict.fromkeys(each.partition("/")[0] for each in selection.ids):
            mail_id = mail_id_of(text)
            if mail_id is not None:
                yield self._prefix + dead_folder(mail_id)

    def _record(self, key: str) -> DeadRecord | None:
        data = self._store.read(key)
        try:
            return None if data is None else DeadRecord.model_validate_json(data)
        except ValidationError:
            return None

    def _find(self, record: DeadRecord) -> str | None:
        """The spool key of a record's mail, None if the mail is gone."""
        received = datetime.fromtimestamp(record.first / 1000, UTC)
        for hours in range(_HOURS):
            key = self._prefix + spool_key(record.id, received + timedelta(hours=hours))
            if self._store.read(key, 1) is not None:
                return key
            if record.flow:
                return None  # a mail's id has its time, to the millisecond
        for entry in self._store.list(f"{self._prefix}spool/{shard(record.id)}/"):
            if spooled_id(entry.key, self._prefix) == record.id:
                return entry.key
        return None

    def _find_kept(self, mail_id: str) -> tuple[Envelope, bytes] | None:
        if mail_id_of(mail_id) is None:
            return None
        begun = datetime.fromtimestamp(uuid7_ms(mail_id) / 1000, UTC)
        for hours in range(_HOURS):
            data = self._store.read(self._prefix + kept_key(mail_id, begun + timedelta(hours=hours)))
            if data is not None:
                return _split(data)
        for days in range(_DAYS):
            day = begun + timedelta(days=days)
            for entry in self._store.list(f"{self._prefix}kept/{day:%Y/%m/%d}/"):
                if kept_id(entry.key, self._prefix) == mail_id:
                    data = self._store.read(entry.key)
                    return _split(data) if data is not None else None
        return None


def _split(data: bytes) -> tuple[Envelope, bytes]:
    try:
        return split_object(data)
    except UnknownEnvelope as error:
        raise Permanent(f"the mail cannot be read: {error}") from error


def _days(selection: KeptSelection) -> list[str]:
    """The folders below `kept/` that can hold selected mails: those of the days between both ends, if
    both are given, and of the day after, because a mail is received some time after it got its id."""
    if selection.since is None or selection.until is None:
        return [""]
    day = datetime.fromtimestamp(selection.since / 1000, UTC).date()
    last = datetime.fromtimestamp(selection.until / 1000, UTC).date() + timedelta(days=1)
    found = []
    while day <= last:
        found.append(f"{day:%Y/%m/%d}/")
        day += timedelta(days=1)
    return found
