"""The mails that wait in a spool folder."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from functions.config import DeliveryConfig
from functions.errors import Temporary
from functions.local import layout
from functions.local.receipts import CLAIMED
from functions.local.view.reader import Row, is_owned, look, page, pages, parts_of, text
from functions.message.envelope import LAST, UnknownEnvelope, from_json
from functions.spool.dead_record import DeadRecord
from functions.spool.queue import Failure, QueuedMail

_FIRST: Final = -(1 << 63)
_MAIL: Final = "SELECT seq, id, received, parked, attempts, next, envelope FROM mail WHERE seq = ?"
_MAILS: Final = _MAIL.replace("seq = ?", "seq > ? ORDER BY seq LIMIT 200")
# The id is asked again, because the number may have gone to another mail meanwhile.
_RETRY: Final = "UPDATE mail SET next = ? WHERE seq = ? AND id = ? AND parked IS NOT 1"


def open_queue(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> FolderQueue:
    """The mails of the configuration's folder; `folder` is the working folder."""
    return FolderQueue(config.spool.folder(folder))


class FolderQueue:
    """`functions.spool.queue.MailQueue` for a folder, over all its parts. A folder that does not exist holds
    no mails."""

    def __init__(self, root: Path) -> None:
        self._parts = parts_of(root)
        self.owned: bool | None = is_owned(root)

    def ids(self, *, parked: bool = True) -> Iterator[tuple[str, int]]:
        for part in self._parts:
            for _, mail_id, received, is_parked in self._numbers(part):
                if parked or not is_parked:
                    yield mail_id, received

    def mails(self, ids: Iterable[str] | None = None, *, claims: bool = False) -> Iterator[QueuedMail]:
        wanted = None if ids is None else set(ids)
        for part in self._parts:
            held = self._claimed(part) if claims else frozenset()
            if wanted is None:
                yield from self._all(part, held)
                continue
            for seq, mail_id, _, _ in self._numbers(part):
                if mail_id in wanted:
                    rows, *about = look(part, partial(_mails, statement=_MAIL, value=seq))
                    yield from (_queued(row, about, held) for row in rows)

    def retry(self, ids: Iterable[str] | None) -> list[str]:
        wanted = None if ids is None else set(ids)
        done: list[str] = []
        for part in self._parts:
            found = [
                (seq, mail_id)
                for seq, mail_id, _, parked in self._numbers(part)
                if not parked and (wanted is None or mail_id in wanted)
            ]
            if not found:
                continue
            try:
                with part.visit() as db:
                    for seq, mail_id in found:
                        changed = db.execute(_RETRY, (layout.NOW, seq, mail_id))
                        done += [mail_id] * changed.rowcount
            except sqlite3.Error as error:
                if layout.lost_sync(error):
                    part.trust.lose()
                raise Temporary(f"the spool cannot be written: {error}") from error
        return done

    def buried(self, mail_id: str) -> list[DeadRecord]:
        return [record for part in self._parts for record in look(part, partial(_buried, mail_id=mail_id))]

    @staticmethod
    def _numbers(part: layout.Part) -> Iterator[tuple[int, str, int, bool]]:
        """Number, id, time and if it is parked, of each mail."""
        statement = "SELECT seq, id, received, parked FROM mail WHERE seq > ? ORDER BY seq"
        for seq, mail_id, received, parked in pages(part, statement, (_FIRST,)):
            yield seq, text(mail_id), received if isinstance(received, int) else 0, parked == 1

    @staticmethod
    def _all(part: layout.Part, held: frozenset[int]) -> Iterator[QueuedMail]:
        after = _FIRST
        while True:
            rows, *about = look(part, partial(_mails, statement=_MAILS, value=after))
            yield from (_queued(row, about, held) for row in rows)
            if not rows:
                return
            after = rows[-1][0]

    @staticmethod
    def _claimed(part: layout.Part) -> frozenset[int]:
        """The numbers of the mails with an effect that was begun."""
        statement = "SELECT key, seq, state FROM receipt WHERE key > CAST(? AS TEXT) ORDER BY key"
        rows = pages(part, statement, (b"",))
        return frozenset(seq for _, seq, state in rows if text(state) == CLAIMED)


_About = tuple[dict[int, list[Failure]], dict[bytes, list[DeadRecord]], dict[int, set[str]]]


def _mails(
    db: sqlite3.Connection, statement: str, value: int
) -> tuple[list[Row], dict[int, list[Failure]], dict[bytes, list[DeadRecord]], dict[int, set[str]]]:
    """Some rows of mails; failures by number, dead records by id, keys of settled outputs by number."""
    rows, _ = page(db, statement, (value,))
    failures: defaultdict[int, list[Failure]] = defaultdict(list)
    dead: defaultdict[bytes, list[DeadRecord]] = defaultdict(list)
    settled: defaultdict[int, set[str]] = defaultdict(set)
    for seq, mail_id, *_ in rows:
        dead[mail_id] += _buried(db, mail_id)
        settled[seq] |= {text(key) for (key,) in db.execute("SELECT key FROM settled WHERE seq = ?", (seq,))}
    try:
        for seq, mail_id, *_ in rows:
            for (record,) in db.execute("SELECT record FROM failure WHERE seq = ?", (seq,)):
                found = _failure(record)
                # An earlier version gives numbers again and leaves these rows.
                if found is not None and found.id == text(mail_id):
                    failures[seq].append(found)
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):  # the server is of an earlier version
            raise
    return rows, failures, dead, settled


def _buried(db: sqlite3.Connection, mail_id: object) -> list[DeadRecord]:
    rows = db.execute("SELECT record FROM dead WHERE id = CAST(? AS TEXT) ORDER BY key", (mail_id,))
    return [record for (content,) in rows if (record := dead_record_of(content)) is not None]


def _queued(row: Row, about: Any, held: frozenset[int]) -> QueuedMail:
    seq, mail_id, received, parked, attempts, due, content = row
    failures, dead, settled = about
    sound = isinstance(received, int) and 0 <= received <= LAST
    known: dict[str, Any] = {"received": received if sound else None}
    state = "parked" if parked == 1 else "waiting"
    try:
        if not isinstance(content, bytes):
            raise UnknownEnvelope("the envelope is not text")
        envelope = from_json(content)
    except UnknownEnvelope:
        state = "parked" if parked == 1 else "unreadable"
    else:
        known |= {
            "reverse_path": envelope.reverse_path,
            "recipients": tuple(each.address for each in envelope.recipients),
            "flows": envelope.flows(),
            "size": envelope.size,
        }
    return QueuedMail(
        id=text(mail_id),
        state=state,  # type: ignore[arg-type]
        attempts=attempts if isinstance(attempts, int) else None,
        next=int(due * 1000) if isinstance(due, int | float) and 0 <= due < LAST / 1000 else 0,
        failures=tuple(each for each in failures.get(seq, ()) if each.key not in settled.get(seq, ())),
        dead=tuple(dead.get(mail_id, ())),
        under_way=seq in held,
        **known,
    )


def _failure(content: object) -> Failure | None:
    """None for a row that is not a failure."""
    try:
        return Failure.model_validate_json(content) if isinstance(content, bytes | str) else None
    except ValidationError:
        return None


def dead_record_of(content: object) -> DeadRecord | None:
    """None for a row that is not a dead record."""
    try:
        return DeadRecord.model_validate_json(content) if isinstance(content, bytes | str) else None
    except ValidationError:
        return None
