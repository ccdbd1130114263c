"""The mails that wait in a spool bucket: one code path for S3 and Cloud Storage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from functions.backends import open_spool
from functions.bucket.deadletters import BucketDeadLetters
from functions.bucket.marks import Marks, dead_name, read_marks, spooled_id
from functions.bucket.store import ObjectStore
from functions.bucket.sweep import Notify, no_notification
from functions.config import DeliveryConfig
from functions.errors import ConfigError
from functions.ids import uuid7_ms
from functions.message.envelope import Envelope, UnknownEnvelope
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import Selection
from functions.spool.object import read_head
from functions.spool.queue import QueuedMail

_HEAD: Final = 262_144


def open_queue(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> BucketQueue:
    """The mails of the configuration's bucket. Raises ConfigError."""
    access = open_spool(config, folder, environ)
    return BucketQueue(access.store, access.prefix, access.notify if config.mode == "events" else None)


class BucketQueue:
    """`functions.spool.queue.MailQueue` for a bucket. Without `notify` a server delivers, which no other
    process can notify."""

    owned: bool | None = None

    def __init__(self, store: ObjectStore, prefix: str, notify: Notify | None) -> None:
        self._store = store
        self._prefix = prefix
        self._notify = notify
        self._letters = BucketDeadLetters(store, prefix, no_notification)

    def ids(self, *, parked: bool = True) -> Iterator[tuple[str, int]]:
        marks = {} if parked else self._marks()
        for _, mail_id in self._keys():
            if mail_id not in marks or not marks[mail_id].is_parked:
                yield mail_id, uuid7_ms(mail_id)

    def mails(self, ids: Iterable[str] | None = None, *, claims: bool = False) -> Iterator[QueuedMail]:
        wanted = None if ids is None else set(ids)
        marks = self._marks() if wanted is None else None
        for key, mail_id in self._keys():
            if wanted is None or mail_id in wanted:
                mark = read_marks(self._store, self._prefix, mail_id) if marks is None else marks[mail_id]
                yield from self._mail(key, mail_id, mark)

    def retry(self, ids: Iterable[str] | None) -> list[str]:
        if self._notify is None:
            raise ConfigError(
                "queue retry",
                "a server delivers from this bucket, and other processes cannot notify it",
                "it looks for unfinished mail every 5 minutes",
            )
        wanted = None if ids is None else set(ids)
        found = [(key, mail_id) for key, mail_id in self._keys() if wanted is None or mail_id in wanted]
        marks = self._marks()
        due = [(key, mail_id) for key, mail_id in found if not marks[mail_id].is_parked]
        for at in range(0, len(due), 100):
            self._notify([key for key, _ in due[at : at + 100]])
        return [mail_id for _, mail_id in due]

    def buried(self, mail_id: str) -> list[DeadRecord]:
        return list(self._letters.list(Selection(ids=(mail_id,))))

    def _marks(self) -> defaultdict[str, Marks]:
        """The marks of all mails: by one listing, instead of one for each mail."""
        marks: defaultdict[str, Marks] = defaultdict(Marks)
        for entry in self._store.list(f"{self._prefix}dead/"):
            if (name := dead_name(entry.key, self._prefix)) is not None:
                marks[name[0]].add(name[1])
        return marks

    def _keys(self) -> Iterator[tuple[str, str]]:
        for entry in self._store.list(f"{self._prefix}spool/"):
            if (mail_id := spooled_id(entry.key, self._prefix)) is not None:
                yield entry.key, mail_id

    def _mail(self, key: str, mail_id: str, marks: Marks) -> Iterator[QueuedMail]:
        """The mail of one key; nothing if it is gone meanwhile."""
        start = self._store.read(key, _HEAD)
        if start is None:
            return
        envelope: Envelope | None = None
        readable = True
        try:
            head = read_head(start)
            envelope = None if head is None else head.envelope
        except UnknownEnvelope:
            readable = False
        yield QueuedMail(
            id=mail_id,
            state="parked" if marks.is_parked else "waiting" if readable else "unreadable",
            received=uuid7_ms(mail_id) if envelope is None else envelope.received,
            reverse_path="" if envelope is None else envelope.reverse_path,
            recipients=() if envelope is None else tuple(each.address for each in envelope.recipients),
            flows=() if envelope is None else envelope.flows(),
            size=None if envelope is None else envelope.size,
            dead=tuple(self.buried(mail_id)) if marks.dead else (),
        )
