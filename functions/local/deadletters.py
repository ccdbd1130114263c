"""Dead letters of a local spool; works beside the server that owns the spool."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from functions.config import DeliveryConfig
from functions.errors import Damaged, Permanent, Temporary
from functions.local import layout
from functions.local.archive import Archive, read_kept
from functions.local.view.queue import dead_record_of
from functions.local.view.reader import look, number_of, pages, parts_of
from functions.message.envelope import Envelope, UnknownEnvelope, from_json
from functions.message.mail import BytesContent, is_whole
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import KeptSelection, Selection, Shown

HEAD: Final = 65_536

_DEAD: Final = (
    "SELECT id, key, record FROM dead WHERE (id, key) > (CAST(? AS TEXT), CAST(? AS TEXT)) ORDER BY id, key"
)
_MAIL: Final = "SELECT envelope, body FROM mail WHERE seq = ?"
# The number is found before the transaction, because the server waits for that one.
_STATE: Final = "SELECT seq, parked FROM mail WHERE seq = ? AND id = ?"


def open_dead_letters(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> FolderDeadLetters:
    """The dead letters of the configuration's folder."""
    root = config.spool.folder(folder)
    durable = config.spool.durability == "fsync"
    return FolderDeadLetters(root, Archive(config.cache_path, folder, durable=durable))


class FolderDeadLetters:
    """`functions.spool.deadletters.DeadLetters` for a folder: the records of all its parts."""

    def __init__(self, root: Path, archive: Archive) -> None:
        self._archive = archive
        self._parts = parts_of(root)

    def list(self, selection: Selection) -> Iterator[DeadRecord]:
        found: list[DeadRecord] = []
        for part in self._parts:
            for _, _, content in pages(part, _DEAD, (b"", b"")):
                record = dead_record_of(content)
                if record is not None and selection.takes(record):
                    found.append(record)
        yield from sorted(found, key=lambda record: (record.id, record.key))

    def show(self, record: DeadRecord) -> Shown:
        for part in self._parts:
            row = _stored(part, record.id)
            if row is not None:
                return Shown(record, _envelope(row[0]), _start(part, record.id, row[1]))
        return Shown(record, None, b"")

    def replay(self, record: DeadRecord, *, now: bool) -> None:
        if not replay_once(self._parts, record):
            raise Permanent("another command replayed or dropped this record meanwhile")

    def kept(self, selection: KeptSelection) -> Iterator[str]:
        found = [(one.received, one.id) for one in self._archive.copies(selection.prefix)]
        yield from (mail_id for received, mail_id in sorted(found) if selection.takes(received))

    def replay_kept(self, mail_id: str, *, now: bool) -> int:
        path = self._archive.find(mail_id)
        kept = read_kept(path) if path is not None else None
        if kept is None or not self._parts:
            raise Permanent(f"no mail {mail_id} is kept")
        envelope, content = kept
        if not is_whole(envelope, BytesContent(content)):
            raise Damaged(f"the copy of {mail_id} that is kept")
        for part in self._parts:
            row = _stored(part, mail_id)
            if row is not None:
                there = _envelope(row[0])
                return envelope.replay if there is None else there.replay
        with _writing(self._parts[0]) as db:
            again = envelope.model_copy(update={"replay": envelope.replay + 1})
            # Large bodies also go into the database, because only the owner may add files.
            db.execute(
                "INSERT INTO mail (seq, id, received, envelope, body, next) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    layout.FOREIGN + time.time_ns() // 1000,
                    mail_id,
                    again.received,
                    again.to_json(),
                    content,
                    time.time(),
                ),
            )
            return again.replay

    def drop(self, record: DeadRecord) -> None:
        for part in self._parts:
            gone = False
            seq = number_of(part, record.id)
            with _writing(part) as db:
                db.execute("DELETE FROM dead WHERE id = ? AND key = ?", (record.id, record.key))
                row = db.execute(_STATE, (seq, record.id)).fetchone()
                if row is not None:
                    # As in a bucket: whatever the other outputs do, this one is finished.
                    db.execute("INSERT OR REPLACE INTO settled VALUES (?, ?, 'done')", (row[0], record.key))
                others = db.execute("SELECT 1 FROM dead WHERE id = ?", (record.id,)).fetchone()
                if row is not None and row[1] and others is None:
                    layout.delete(db, [row[0]])
                    layout.delete_traces(db, [row[0]])
                    gone = True
            if gone:
                with contextlib.suppress(OSError):
                    os.unlink(part.large / f"{record.id}.eml")  # noqa: PTH108

    def close(self) -> None:
        """No connection outlives its method."""


def _stored(part: layout.Part, mail_id: str) -> tuple[object, object] | None:
    """Envelope and body of a mail as they are stored; None if it is not in this part. Raises Temporary."""
    seq = number_of(part, mail_id)
    if seq is None:
        return None
    found: tuple[object, object] | None = look(part, lambda db: db.execute(_MAIL, (seq,)).fetchone())
    return found


def replay_once(parts: Iterable[layout.Part], record: DeadRecord) -> bool:
    """Deliver the output of a dead record again; False if another process replayed or dropped the record
    before, so that of several requests one delivers. The server sees within a second that the database
    changed. Raises Permanent if the mail is gone, Temporary if the spool cannot be written."""
    for part in parts:
        if (seq := number_of(part, record.id)) is None:
            continue
        with _writing(part) as db:
            if db.execute(_STATE, (seq, record.id)).fetchone() is None:
                continue
            gone = db.execute("DELETE FROM dead WHERE id = ? AND key = ?", (record.id, record.key))
            if not gone.rowcount:
                return False
            db.execute("DELETE FROM settled WHERE seq = ? AND key = ?", (seq, record.key))
            db.execute("UPDATE mail SET parked = 0, attempts = 0, next = ? WHERE seq = ?", (time.time(), seq))
            return True
    raise Permanent("the mail is not in the spool: this record cannot be replayed")


def _envelope(text: object) -> Envelope | None:
    """None for a text that is not an envelope."""
    try:
        return from_json(text) if isinstance(text, bytes | str) else None
    except UnknownEnvelope:
        return None


def _start(part: layout.Part, mail_id: str, body: object) -> bytes:
    """The first bytes of a stored mail, damaged or not."""
    if body is not None:
        return body[:HEAD] if isinstance(body, bytes) else b""
    try:
        with (part.large / f"{mail_id}.eml").open("rb") as stream:
            return stream.read(HEAD)
    except OSError:
        return b""


@contextlib.contextmanager
def _writing(part: layout.Part) -> Iterator[sqlite3.Connection]:
    """One transaction, on a connection of its own; the owner of the spool waits for it."""
    try:
        with part.visit() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
    except sqlite3.Error as error:
        if layout.lost_sync(error):
            part.trust.lose()
        raise Temporary(f"the spool cannot be written: {error}") from error
