"""The list of all files that count for `retention`: a database beside the parts of a spool, which all
workers share. Losing it means only that the files of the past stay."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from functions.local.retention.records import Record
from functions.processors.file.owned import OwnedFile

NAME: Final = "retention.db"

RESTART: Final = 43_200.0
"""Most seconds, by the wall clock alone, that a restart of the machine adds to the age of files."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS file (
    n INTEGER PRIMARY KEY, at REAL NOT NULL, measured REAL NOT NULL, root BLOB NOT NULL,
    folder BLOB NOT NULL, name BLOB NOT NULL, witness TEXT NOT NULL, size INTEGER NOT NULL,
    UNIQUE (folder, name, witness));
CREATE INDEX IF NOT EXISTS by_root ON file (root, n, size);
CREATE TABLE IF NOT EXISTS clock (
    id INTEGER PRIMARY KEY CHECK (id = 1), measured REAL NOT NULL, at REAL NOT NULL,
    boot TEXT NOT NULL, up REAL NOT NULL);
"""

_UP: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Seconds since the machine started, its sleep included."""
    return time.clock_gettime(_UP)


def boot_id() -> str:
    """Names this start of the machine; "" if the system has no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class FileList:
    """One worker's connection. Belongs to the thread that makes it. Methods raise sqlite3.Error."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / NAME, isolation_level=None, timeout=10.0)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_TABLES)
            self._boot = boot_id()
            self._since = self._measured_before() - uptime()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def measured(self) -> float:
        """Seconds that servers of this spool measured so far, whatever the wall clock showed."""
        return self._since + uptime()

    def add(self, records: Iterable[Record]) -> None:
        """Add files; one that is listed is not added again."""
        measured = self.measured()
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO file (at, measured, root, folder, name, witness, size)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(one.at, measured, *one.file) for one in records],
            )

    def keep_time(self) -> None:
        """Record how much time was measured."""
        self._db.execute(
            "INSERT INTO clock VALUES (1, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " measured = excluded.measured, at = excluded.at, boot = excluded.boot, up = excluded.up"
            " WHERE excluded.measured >= measured",
            (self.measured(), time.time(), self._boot, uptime()),
        )

    def forget_others(self, roots: Iterable[bytes]) -> None:
        """Forget the files of outputs that limit nothing any more; they stay."""
        known = [row[0] for row in self._db.execute("SELECT DISTINCT root FROM file")]
        for root in set(known) - set(roots):
            self._db.execute("DELETE FROM file WHERE root = ?", (root,))

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """All reads of the block see one state: a number that was counted before another worker removed
        files, beside the list after it, would remove as many files again."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def total(self, root: bytes) -> tuple[int, int]:
        """The number of files, and of their bytes."""
        count, size = self._db.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM file WHERE root = ?", (root,)
        ).fetchone()
        return count, size

    def files(self, root: bytes) -> Iterator[Record]:
        """All files, oldest first."""
        rows = self._db.execute(
            "SELECT n, at, root, folder, name, witness, size FROM file WHERE root = ? ORDER BY n", (root,)
        )
        return (Record(n, at, OwnedFile(*file)) for n, at, *file in rows)

    def older(self, root: bytes, age: float, most: int) -> list[Record]:
        """The oldest files whose age is larger by both clocks, the wall's and the servers' own."""
        rows = self._db.execute(
            "SELECT n, at, root, folder, name, witness, size FROM file"
            " WHERE root = ? AND at < ? AND measured < ? ORDER BY n LIMIT ?",
            (root, time.time() - age, self.measured() - age, most),
        )
        return [Record(n, at, OwnedFile(*file)) for n, at, *file in rows.fetchall()]

    def remove(self, numbers: Iterable[int]) -> None:
        """Take files off the list."""
        with self._transaction():
            self._db.executemany("DELETE FROM file WHERE n = ?", [(n,) for n in numbers])

    def _measured_before(self) -> float:
        """The time measured by earlier servers, and the time since then as far as it is known."""
        found = self._db.execute("SELECT measured, at, boot, up FROM clock").fetchone()
        if found is None:
            return 0.0
        measured, at, boot, up = found
        if boot and boot == self._boot:
            return float(measured + max(0.0, uptime() - up))
        sure = uptime() if boot and self._boot else 0.0
        return float(measured + min(max(0.0, time.time() - at), sure + RESTART))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
