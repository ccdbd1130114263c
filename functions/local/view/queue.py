"""The mails that wait in a spool folder."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

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
_DEAD: Final = "SELECT mail.id, record FROM mail JOIN dead ON dead.id = mail.id WHERE seq BETWEEN ? AND ?"
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
        self.owned = is_owned(root)

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
                    rows, about = look(part, partial(_mails, statement=_MAIL, value=seq))
                    yield from _queued_all(rows, about, held)

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
            rows, about = look(part, partial(_mails, statement=_MAILS, value=after))
            yield from _queued_all(rows, about, held)
            if not rows:
                return
            after = rows[-1][0]

    @staticmethod
    def _claimed(part: layout.Part) -> frozenset[int]:
        """The numbers of the mails with an effect that was begun."""
        statement = "SELECT key, seq, state FROM receipt WHERE key > CAST(? AS TEXT) ORDER BY key"
        rows = pages(part, statement, (b"",))
        return frozenset(seq for _, seq, state in rows if text(state) == CLAIMED)


class _About(NamedTuple):
    """What one transaction reads of some mails: failures and keys of settled outputs by number, dead
    records by id, all as they are stored, because the transaction has to be short."""

    failures: list[Row]
    settled: list[Row]
    dead: list[Row]


def _mails(db: sqlite3.Connection, statement: str, value: int) -> tuple[list[Row], _About]:
    """Some rows of mails, and what else is known of them."""
    rows, _ = page(db, statement, (value,))
    if not rows:
        return rows, _About([], [], [])
    between = rows[0][0], rows[-1][0]
    try:
        failures = db.execute("SELECT seq, record FROM failure WHERE seq BETWEEN ? AND ?", between).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):  # the server is of an earlier version
            raise
        failures = []
    settled = db.execute("SELECT seq, key FROM settled WHERE seq BETWEEN ? AND ?", between).fetchall()
    return rows, _About(failures, settled, db.execute(_DEAD, between).fetchall())


def _queued_all(rows: list[Row], about: _About, held: frozenset[int]) -> Iterator[QueuedMail]:
    failures: defaultdict[int, list[Failure]] = defaultdict(list)
    dead: defaultdict[bytes, list[DeadRecord]] = defaultdict(list)
    settled = {(seq, text(key)) for seq, key in about.settled}
    for seq, record in about.failures:
        if (found := _failure(record)) is not None and (seq, found.key) not in settled:
            failures[seq].append(found)
    for mail_id, record in about.dead:
        if (buried := dead_record_of(record)) is not None:
            dead[mail_id].append(buried)
    for row in rows:
        # An earlier version gives numbers again, and leaves the failures of other mails.
        of_this = [each for each in failures.get(row[0], ()) if each.id == text(row[1])]
        yield _queued(row, tuple(of_this), tuple(dead.get(row[1], ())), under_way=row[0] in held)


def _buried(db: sqlite3.Connection, mail_id: object) -> list[DeadRecord]:
    rows = db.execute("SELECT record FROM dead WHERE id = CAST(? AS TEXT) ORDER BY key", (mail_id,))
    return [record for (content,) in rows if (record := dead_record_of(content)) is not None]


def _queued(
    row: Row, failures: tuple[Failure, ...], dead: tuple[DeadRecord, ...], *, under_way: bool
) -> QueuedMail:
    _, mail_id, received, parked, attempts, due, content = row
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
        failures=failures,
        dead=dead,
        under_way=under_way,
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
