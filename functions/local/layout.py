"""The local spool: a folder with one part per worker, each an SQLite database and two folders.

`spool.db` holds small mails, envelopes, what is settled, receipts and dead records; `large/`
holds bodies above 64 KiB, named by mail id; `staging/` is for temporary files of outputs. Only
the owner of a part writes mails; `deadletter` may change records beside it (WAL mode).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from functions.errors import ConfigError
from functions.message.envelope import Envelope, from_json
from functions.message.mail import BytesContent, Content, FileContent, Mail
from functions.spool.dead_record import DeadRecord

LAYOUT: Final = 1
"""Number of this layout, kept in `user_version`; another one is not opened."""

FOREIGN: Final = 1 << 52
"""Sequence numbers from here on are given by other processes than the owner (replay of kept mail),
which cannot know the owner's next one."""

_TABLES: Final = """
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
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One unfinished mail of a part."""

    seq: int
    mail: Mail
    attempts: int


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter: mails lie in it. One that is there stays as it
    is. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


class Lock:
    """One server owns a spool folder. Raises ConfigError when another one does."""

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
                f"spool {folder}", "another server is using it", "stop that one, or name another spool"
            ) from error

    def release(self) -> None:
        """Let another server in."""
        os.close(self._fd)


class Part:
    """One worker's part. A connection belongs to the thread that opened it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.large = folder / "large"
        self.staging = folder / "staging"
        self.database = folder / "spool.db"

    def create(self) -> None:
        """Make the folders and tables. Raises ConfigError where that cannot be done."""
        try:
            make_private(self.folder)
            self.large.mkdir(exist_ok=True)
            self.staging.mkdir(exist_ok=True)
            db = self.connect()
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, LAYOUT):
                raise ConfigError(
                    f"spool {self.folder}",
                    f"was written by another version (layout {version}, this one reads {LAYOUT})",
                    "let that version deliver what is in it, or name another spool",
                )
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_TABLES)
            db.execute(f"PRAGMA user_version = {LAYOUT}")
            db.close()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"spool {self.folder}", f"cannot be used: {error}", "name a folder that can be written"
            ) from error

    def connect(self, patience: float = 30.0) -> sqlite3.Connection:
        """Open the database for this thread, each commit durable. `patience` is how many seconds to
        wait for another process's commit."""
        db = sqlite3.connect(self.database, isolation_level=None, timeout=patience, cached_statements=64)
        db.execute("PRAGMA synchronous = FULL")
        # Some builds of SQLite (Debian's) overwrite what is deleted, which doubles what is written.
        # What an output stored or sent needs no wiping here; nor does a deleted file get any.
        db.execute("PRAGMA secure_delete = OFF")
        return db

    def content(self, mail_id: str, body: bytes | None) -> Content:
        """A mail's content: the body column, or the file of a large one."""
        if body is not None:
            return BytesContent(body)
        path = self.large / f"{mail_id}.eml"
        return FileContent(path, path.stat().st_size)

    def load(self, db: sqlite3.Connection, seq: int) -> Row | None:
        """One unfinished mail, or None when it is finished."""
        found = db.execute("SELECT id, envelope, body, attempts FROM mail WHERE seq = ?", (seq,)).fetchone()
        if found is None:
            return None
        mail_id, envelope, body, attempts = found
        return Row(seq, Mail(from_json(envelope), self.content(mail_id, body)), attempts)

    def due(self, db: sqlite3.Connection, now: float) -> list[int]:
        """The unparked mails whose time has come, oldest first."""
        rows = db.execute("SELECT seq FROM mail WHERE parked = 0 AND next <= ? ORDER BY seq", (now,))
        return [row[0] for row in rows]

    def last(self, db: sqlite3.Connection) -> int:
        """The highest sequence number that the owner gave."""
        found: int = db.execute(
            "SELECT coalesce(max(seq), 0) FROM mail WHERE seq < ?", (FOREIGN,)
        ).fetchone()[0]
        return found

    def waiting(self, db: sqlite3.Connection) -> list[tuple[float, int]]:
        """Every unparked mail with the time of its next attempt."""
        return list(db.execute("SELECT next, seq FROM mail WHERE parked = 0 ORDER BY seq"))

    def ids(self) -> set[str]:
        """The ids of the unfinished mails. Raises ConfigError when the database cannot be read."""
        try:
            with contextlib.closing(self.connect()) as db:
                return {row[0] for row in db.execute("SELECT id FROM mail")}
        except sqlite3.Error as error:
            raise ConfigError(
                f"spool {self.folder}", f"cannot be read: {error}", "move it away, or repair it with sqlite3"
            ) from error

    def remove_orphans(self, db: sqlite3.Connection) -> int:
        """Remove what a crash left of mails that were never accepted; returns how many files."""
        known = {row[0] for row in db.execute("SELECT id FROM mail")}
        removed = 0
        for path in self.large.iterdir():
            if path.stem not in known:
                path.unlink()
                removed += 1
        return removed


def insert(db: sqlite3.Connection, rows: Iterable[tuple[int, Envelope, bytes | None, float]]) -> None:
    """Store mails: sequence number, envelope, body (None when in `large/`), next attempt."""
    db.executemany(
        "INSERT INTO mail (seq, id, received, envelope, body, next) VALUES (?, ?, ?, ?, ?, ?)",
        [(seq, e.id, e.received, e.to_json(), body, due) for seq, e, body, due in rows],
    )


def delete(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Remove finished mails."""
    db.executemany("DELETE FROM mail WHERE seq = ?", [(seq,) for seq in numbers])


def delete_traces(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Remove what is settled and the receipts of finished mails."""
    keys = [(seq,) for seq in numbers]
    db.executemany("DELETE FROM settled WHERE seq = ?", keys)
    db.executemany("DELETE FROM receipt WHERE seq = ?", keys)


def parts(folder: Path) -> Iterator[Part]:
    """The parts that exist in a spool folder."""
    for path in sorted(folder.glob("part-*")):
        if (path / "spool.db").exists():
            yield Part(path)


def bury(db: sqlite3.Connection, record: DeadRecord) -> None:
    """Store a dead record; one that is there already stays."""
    db.execute(
        "INSERT OR IGNORE INTO dead (id, key, record) VALUES (?, ?, ?)",
        (record.id, record.key, record.model_dump_json()),
    )
