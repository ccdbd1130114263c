"""The local spool: a folder with one part per worker, each an SQLite database and two folders.

`spool.db` holds small mails, envelopes, settled outputs, receipts and dead records; `large/` holds
bodies above 64 KiB, named by mail id; `staging/` is for temporary files of outputs. Only the owner
of a part writes mails; `deadletter` may change records beside it (WAL mode).

After a failed sync no process opens the database until it is rebuilt (`trust`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from functions.errors import ConfigError
from functions.local.repair.trust import Trust
from functions.message.envelope import LAST, Envelope, UnknownEnvelope, from_json
from functions.message.mail import BytesContent, Content, FileContent, Mail
from functions.spool.dead_record import DeadRecord

log = logging.getLogger("smtp_relay.delivery")

LAYOUT: Final = 1
"""Number of this layout, kept in `user_version`; the spool opens no other."""

FOREIGN: Final = 1 << 52
"""Sequence numbers from here on are given by other processes than the owner (replay of kept mail),
because they cannot know the owner's next one."""

NOW: Final = 0
"""As the due time of a mail: another process asks the owner for an attempt, whatever was scheduled."""

TABLES: Final = """
CREATE TABLE IF NOT EXISTS mail (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, received INTEGER NOT NULL,
    parked INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
    next REAL NOT NULL DEFAULT 0, envelope BLOB NOT NULL, body BLOB);
CREATE TABLE IF NOT EXISTS settled (
    seq INTEGER NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (seq, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead (
    id TEXT NOT NULL, key TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (id, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipt (
    key TEXT PRIMARY KEY, seq INTEGER NOT NULL, state TEXT NOT NULL, result TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failure (
    seq INTEGER NOT NULL, key TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (seq, key)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One unfinished mail of a part."""

    seq: int
    mail: Mail
    attempts: int


class UnreadableRow(Exception):
    """The row of a mail that cannot be read, now or ever; `str()` gives the reason. `received` is in
    Unix milliseconds, None if the row does not hold it."""

    def __init__(self, mail_id: str, received: int | None, attempts: int, reason: str) -> None:
        super().__init__(reason)
        self.mail_id = mail_id
        self.received = received
        self.attempts = attempts


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter, because it holds mails. An existing folder stays
    unchanged. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


class Lock:
    """One server owns a spool folder. Raises ConfigError if another one does."""

    def __init__(self, folder: Path) -> None:
        try:
            make_private(folder)
            self._fd = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"spool {folder}", f"cannot be used: {error.strerror}", "name a folder that can be written"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise ConfigError(
                f"spool {folder}",
                "another server is using it",
                f"stop that one, or give this one its own: SMTP_RELAY_SPOOL=file://{folder}-2",
            ) from error

    def release(self) -> None:
        """Let another server own the folder."""
        os.close(self._fd)


class SpoolConnection(sqlite3.Connection):
    """A connection to a part; the part is not rebuilt before the connection is closed."""

    entry = -1
    """The descriptor of the part's folder, whose lock prevents the rebuilding."""

    def close(self) -> None:
        super().close()
        if self.entry >= 0:
            os.close(self.entry)
            self.entry = -1


class Part:
    """One worker's part. A connection belongs to the thread that opened it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.large = folder / "large"
        self.staging = folder / "staging"
        self.database = folder / "spool.db"
        self.log = folder / "spool.db-wal"
        self.trust = Trust(folder)

    def create(self) -> None:
        """Make the folders, and the tables of a database that is trusted. Raises ConfigError if this
        fails."""
        try:
            make_private(self.folder)
            self.large.mkdir(exist_ok=True)
            self.staging.mkdir(exist_ok=True)
            self.renew_log()
            if not self.trust.lost:
                self._create_tables()
        except sqlite3.Error as error:
            if not lost_sync(error):
                raise self._unusable(error) from error
            self.trust.lose()
        except OSError as error:
            raise self._unusable(error) from error

    def _create_tables(self) -> None:
        with contextlib.closing(self.connect()) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, LAYOUT):
                raise ConfigError(
                    f"spool {self.folder}",
                    f"was written by another version (layout {version}, this one reads {LAYOUT})",
                    "let that version deliver its mails, or name another spool",
                )
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(TABLES)
            db.execute(f"PRAGMA user_version = {LAYOUT}")
            # Closing does it too, but hides its errors.
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"spool {self.folder}", f"cannot be used: {error}", "name a folder that can be written"
        )

    def connect(self, patience: float = 30.0) -> sqlite3.Connection:
        """Open the database for this thread, each commit durable. `patience` is how many seconds to
        wait for another process's commit. Raises sqlite3.Error, also while the database is
        distrusted."""
        try:
            entry = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise sqlite3.OperationalError(f"unable to open its folder: {error.strerror}") from error
        try:
            if not _lock(entry, fcntl.LOCK_SH) or self.trust.lost:
                raise sqlite3.OperationalError("a sync failed, and the server has yet to write it anew")
            db = self.open(patience)
        except BaseException:
            os.close(entry)
            raise
        db.entry = entry
        return db

    @contextlib.contextmanager
    def visit(self) -> Iterator[sqlite3.Connection]:
        """A connection for the block that is not the last one when it is closed. As the last one,
        SQLite would copy the log into the database and hide a failed sync. Raises sqlite3.Error."""
        with contextlib.ExitStack() as after, contextlib.closing(self.connect()) as db:
            # A restored database has no log until its server opens it: the lock would keep writers out.
            logged = db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            if logged and (kept := self.keep_log()) >= 0:
                after.callback(os.close, kept)
            yield db

    def open(self, patience: float) -> SpoolConnection:
        """Open the database as its owner, which alone rebuilds it."""
        db = sqlite3.connect(
            self.database,
            isolation_level=None,
            timeout=patience,
            cached_statements=64,
            factory=SpoolConnection,
        )
        db.executescript("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON")  # the latter for macOS
        # A commit that copies the log into the database hides its errors.
        db.execute("PRAGMA wal_autocheckpoint = 0")
        # Some builds of SQLite (Debian's) overwrite deleted data, which doubles the bytes written.
        # An output stored or sent this mail, so overwriting would hide nothing.
        db.execute("PRAGMA secure_delete = OFF")
        # Bytes that are not valid text make a row unreadable, not the database.
        db.text_factory = lambda data: data.decode("utf-8", "replace")
        return db

    def renew_log(self) -> None:
        """Write the pages that a dead process left in the log again, because it may have died with the
        only knowledge of a failed sync. For the owner, before it opens the database."""
        if not self.trust.lost:
            try:
                with self.alone(1.0):
                    self.trust.renew_log()
            except OSError as error:
                log.error("the spool's log could not be written again", extra={"reason": str(error)})
                self.trust.lose()

    @contextlib.contextmanager
    def alone(self, patience: float) -> Iterator[None]:
        """No other process has the database open during the block. Raises OSError if one still has it
        open after so many seconds."""
        entry = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + patience
            while not _lock(entry, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, "another process has the spool open", str(self.folder))
                time.sleep(0.01)
            yield
        finally:
            os.close(entry)

    def keep_log(self) -> int:
        """A descriptor. Until it is closed SQLite takes no connection, in any process, for the last
        one, which would copy the log into the database and remove it. -1 without a lock."""
        fd = os.open(self.database, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _SHARED)
        except (AttributeError, OSError):
            os.close(fd)
            return -1
        return fd

    def content(self, mail_id: str, size: int, body: bytes | None) -> Content:
        """A mail's content: the body column, or the file of a large mail, which is not opened yet."""
        return FileContent(self.large / f"{mail_id}.eml", size) if body is None else BytesContent(body)

    def links(self, mail_id: str) -> int:
        """The number of names of a large mail's file: more than one if it was placed in an output's
        folder by a link. Raises OSError."""
        return (self.large / f"{mail_id}.eml").stat().st_nlink

    def load(self, db: sqlite3.Connection, seq: int) -> Row | None:
        """One unfinished mail, or None if it is finished. Raises UnreadableRow."""
        found = db.execute(
            "SELECT id, received, envelope, body, attempts FROM mail WHERE seq = ?", (seq,)
        ).fetchone()
        if found is None:
            return None
        mail_id, received, text, body, attempts = found
        attempts = attempts if isinstance(attempts, int) and 0 <= attempts < 2**31 else 0
        try:
            if not isinstance(text, bytes | str):
                raise UnknownEnvelope("the envelope is not text")
            envelope = from_json(text)
            if envelope.id != mail_id:
                raise UnknownEnvelope(f"the envelope is that of {envelope.id[:100]}")
            if not isinstance(body, bytes | None):
                raise UnknownEnvelope("the body is not bytes")
        except UnknownEnvelope as error:
            told = received if isinstance(received, int) and 0 <= received <= LAST else None
            raise UnreadableRow(str(mail_id), told, attempts, str(error)) from error
        return Row(seq, Mail(envelope, self.content(mail_id, envelope.size, body)), attempts)

    def due(self, db: sqlite3.Connection, now: float, longest: float) -> list[tuple[int, bool]]:
        """The unparked mails that are due, oldest first, and if another process asks for an attempt NOW.
        A due time further away than `longest` seconds was written under another clock, and is ignored."""
        rows = db.execute(
            "SELECT seq, next IS ? FROM mail"
            " WHERE parked IS NOT 1 AND (next BETWEEN ? AND ?) IS NOT 1 ORDER BY seq",
            (NOW, now, now + longest),
        )
        return [(seq, asked == 1) for seq, asked in rows]

    def last(self, db: sqlite3.Connection) -> int:
        """The highest sequence number that the owner gave."""
        found: int = db.execute(
            "SELECT coalesce(max(seq), 0) FROM mail WHERE seq < ?", (FOREIGN,)
        ).fetchone()[0]
        return found

    def waiting(self, db: sqlite3.Connection) -> list[int]:
        """Every unparked mail, oldest first."""
        return [row[0] for row in db.execute("SELECT seq FROM mail WHERE parked IS NOT 1 ORDER BY seq")]

    def bodies(self) -> list[Path]:
        """The files of large mails, including those that are being received."""
        return list(self.large.iterdir())

    def remove_orphans(self, db: sqlite3.Connection, left: Iterable[Path]) -> int:
        """Remove the files of crashed runs whose mails were never accepted; returns how many. While a
        row misses its file, nothing is removed, because one of these may be it."""
        rows = list(db.execute("SELECT id, body IS NULL FROM mail"))
        there = {path.stem for path in self.large.iterdir()}
        if any(apart and mail_id not in there for mail_id, apart in rows):
            return 0
        known = {mail_id for mail_id, _ in rows}
        removed = 0
        for path in left:
            if path.stem not in known:
                path.unlink(missing_ok=True)
                removed += 1
        return removed


def lost_sync(error: sqlite3.Error) -> bool:
    """True if SQLite's error is that of a sync: then the kernel's memory may be the only place that has
    the written data."""
    code = getattr(error, "sqlite_errorcode", None)
    return code in (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)


def _lock(folder: int, kind: int) -> bool:
    """True if the folder was locked. A file system without such locks is assumed to have no other
    processes."""
    try:
        fcntl.flock(folder, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


_SHARED: Final = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0x40000000 + 2, 510, 0)
"""struct flock of the bytes on which each user of an SQLite database has a read lock, and the last user
tries to get a write lock (`SHARED_FIRST`, SQLite's os_unix.c)."""


def insert(db: sqlite3.Connection, rows: Iterable[tuple[int, Envelope, bytes | None, float]]) -> None:
    """Store mails: sequence number, envelope, body (None when in `large/`), next attempt."""
    db.executemany(
        "INSERT INTO mail (seq, id, received, envelope, body, next) VALUES (?, ?, ?, ?, ?, ?)",
        [(seq, e.id, e.received, e.to_json(), body, due) for seq, e, body, due in rows],
    )


def backlog(db: sqlite3.Connection) -> tuple[int, int | None, int]:
    """The number of unfinished mails, when the oldest of them was received (Unix milliseconds, None if
    there is none), and the number of dead records."""
    unfinished, oldest = db.execute(
        "SELECT count(*), min(received) FILTER (WHERE typeof(received) = 'integer')"
        " FROM mail WHERE parked IS NOT 1"
    ).fetchone()
    return unfinished, oldest, db.execute("SELECT count(*) FROM dead").fetchone()[0]


def delete(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Remove finished mails."""
    db.executemany("DELETE FROM mail WHERE seq = ?", [(seq,) for seq in numbers])


def delete_traces(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Remove the settled outputs, receipts and failures of finished mails."""
    keys = [(seq,) for seq in numbers]
    db.executemany("DELETE FROM settled WHERE seq = ?", keys)
    db.executemany("DELETE FROM receipt WHERE seq = ?", keys)
    db.executemany("DELETE FROM failure WHERE seq = ?", keys)


def parts(folder: Path) -> Iterator[Part]:
    """The parts that exist in a spool folder."""
    for path in sorted(folder.glob("part-*")):
        if (path / "spool.db").exists():
            yield Part(path)


def bury(db: sqlite3.Connection, record: DeadRecord) -> None:
    """Store a dead record; an existing one stays."""
    db.execute(
        "INSERT OR IGNORE INTO dead (id, key, record) VALUES (?, ?, ?)",
        (record.id, record.key, record.model_dump_json()),
    )
