"""Rebuilds the database of a part after a failed sync (`trust` gives the reason).

Data that was synced before is on the disk; later data may exist only in the kernel's memory. So
both files are copied, SQLite reads the copy as after a crash (the checksums of its log end it at
the first lost page), and every mail whose size and hash match goes into a new file, which is synced
and renamed into place. A mail that does not match is kept, parked, with a dead record.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from functions.local import layout as folder
from functions.local.layout import LAYOUT, TABLES, Part
from functions.local.retention.records import TABLE as PLACED
from functions.message.envelope import Envelope, UnknownEnvelope, from_json
from functions.message.mail import CHUNK, Content, Mail
from functions.processors.file.fsync import sync_file, sync_folder
from functions.spool.dead_record import DeadRecord

log = logging.getLogger("smtp_relay.delivery")

PATIENCE: Final = 5.0
"""Seconds in which another process may close the database."""

_COLUMNS: Final = "seq, id, received, parked, attempts, next, envelope, body"
_SMALL: Final = {"settled": 3, "dead": 3, "receipt": 4, "placed_file": 8}
"""The other tables and their numbers of columns."""

Condemn = Callable[[Mail, set[str], str], list[DeadRecord]]
"""The dead records of a damaged mail: for its outputs except the settled ones (by key), with that
reason."""


@dataclass
class Rebuilt:
    """The result of a rebuilding."""

    mails: int = 0
    condemned: list[DeadRecord] = field(default_factory=list)
    whole: bool = True
    """True if the old database could be read to its end."""


def rebuild(part: Part, condemn: Condemn) -> Rebuilt:
    """Rebuild the database. Raises OSError and sqlite3.Error, and may then be called again."""
    with part.alone(PATIENCE):
        # The state that could not be recorded at first.
        part.trust.lose()
        part.trust.take_over()
        # The file is beside the database, because a folder of its own would need more room.
        old, new = part.database.with_suffix(".old"), part.database.with_suffix(".new")
        _remove(old, new)
        for ending in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{part.database}{ending}", f"{old}{ending}")
        rebuilt = _copy(part, old, new, condemn)
        sync_file(new)
        try:
            new.replace(part.trust.rebuilt)
            sync_folder(part.folder)
        except OSError:
            # Its name may be lost, and then an old copy must not be taken for the newer one.
            part.trust.rebuilt.unlink(missing_ok=True)
            raise
        part.trust.take_over()
        if not rebuilt.whole:
            aside = part.folder / f"damaged-{time.time_ns() // 1_000_000}.db"
            old.replace(aside)
            extra = {"kept": str(aside)}
            log.critical("the spool's database is damaged: its readable part is kept", extra=extra)
        _remove(old, new)
    return rebuilt


def _remove(*databases: Path) -> None:
    for each in databases:
        for ending in ("", "-wal", "-shm"):
            Path(f"{each}{ending}").unlink(missing_ok=True)


def _copy(part: Part, old: Path, new: Path, condemn: Condemn) -> Rebuilt:
    withdrawn = part.trust.withdrawn()
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as target:
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        target.executescript(TABLES + PLACED)
        empty = not old.exists() or not old.stat().st_size
        with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as source:
            if empty and not Path(f"{old}-wal").exists():
                source.executescript(TABLES)
            reading = _Reading(source)
            target.execute("BEGIN")
            for table, width in _SMALL.items():
                marks = ", ".join("?" * width)
                target.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", reading.rows(table))  # noqa: S608 - our own names
            rebuilt = _copy_mails(part, reading, target, withdrawn, condemn)
            if reading.whole:
                # No code reads them, and their sequence number may be given again.
                target.execute("DELETE FROM settled WHERE seq NOT IN (SELECT seq FROM mail)")
            target.execute("COMMIT")
            rebuilt.whole = reading.whole
        target.execute(f"PRAGMA user_version = {LAYOUT}")
        # It is recorded in the file; the log that this makes is removed at closing.
        target.execute("PRAGMA journal_mode = WAL")
    return rebuilt


def _copy_mails(
    part: Part, reading: _Reading, target: sqlite3.Connection, withdrawn: set[str], condemn: Condemn
) -> Rebuilt:
    rebuilt = Rebuilt()
    for row in reading.mails():
        seq, mail_id, received, parked, attempts, due, envelope, body = row
        if mail_id in withdrawn:
            continue
        wrong = _damage(part, mail_id, envelope, body)
        if wrong:
            settled = {key for (key,) in target.execute("SELECT key FROM settled WHERE seq = ?", (seq,))}
            records = _records(part, mail_id, received, envelope, body, settled, wrong, condemn)
            for record in records:
                folder.bury(target, record)
            rebuilt.condemned += records
            parked = 1
            log.error("a mail in the spool is damaged", extra={"id": mail_id, "reason": wrong})
        target.execute(
            f"INSERT OR IGNORE INTO mail ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own names
            (seq, mail_id, received, parked, attempts, due, envelope, body),
        )
        rebuilt.mails += 1
    return rebuilt


def _damage(part: Part, mail_id: object, envelope: object, body: object) -> str:
    """The fault of a stored mail, "" if there is none."""
    if not (isinstance(mail_id, str) and isinstance(envelope, bytes) and isinstance(body, bytes | None)):
        return "its row holds something else"
    try:
        known = from_json(envelope)
        size, digest = measure(part.content(mail_id, known.size, body))
    except UnknownEnvelope as error:
        return str(error)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EIO):
            raise
        return f"its file cannot be read: {error.strerror}"
    if size == known.size and digest == (known.sha256 or digest):
        return ""
    if body is None and part.links(mail_id) > 1:
        # It was placed by a link, as the file of its only output, whose consumer may change it.
        return ""
    return f"it has {size} bytes instead of {known.size}"


def measure(content: Content) -> tuple[int, str]:
    """Size and sha256 (hex) of a mail's stored content. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with content.open() as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def _records(
    part: Part,
    mail_id: str,
    received: int,
    envelope: bytes,
    body: bytes | None,
    settled: set[str],
    wrong: str,
    condemn: Condemn,
) -> list[DeadRecord]:
    reason = f"the mail is damaged in the spool: {wrong}"
    try:
        known: Envelope = from_json(envelope)
    except (UnknownEnvelope, TypeError):
        now = time.time_ns() // 1_000_000
        unknown = "unknown"
        return [
            DeadRecord(
                id=str(mail_id), key=unknown, flow=unknown, output=unknown, reason=reason, code="5.3.0",
                first=received if isinstance(received, int) else now, last=now,
            )
        ]  # fmt: skip
    return condemn(Mail(known, part.content(mail_id, known.size, body or b"")), settled, reason)


class _Reading:
    """Reads a database that may be damaged, as far as possible."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.whole = True

    def rows(self, table: str, rest: str = "") -> Iterator[tuple[Any, ...]]:
        """The rows of a table up to a damaged page."""
        what = _COLUMNS if table == "mail" else "*"
        try:
            yield from self._db.execute(f"SELECT {what} FROM {table} {rest}")  # noqa: S608 - our own names
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if str(error) == "no such table: placed_file":
                return  # no output had limits
            if code not in _DAMAGED and "no such table" not in str(error):
                raise
            self.whole = False

    def mails(self) -> Iterator[tuple[Any, ...]]:
        """The mails: read from both ends, because a damaged page may be in between."""
        last = -1
        for row in self.rows("mail", "ORDER BY seq"):
            last = row[0]
            yield row
        if not self.whole:
            yield from self.rows("mail", f"WHERE seq > {last} ORDER BY seq DESC")


_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
