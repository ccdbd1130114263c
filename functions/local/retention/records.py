"""The files that outputs placed, as rows of the part's database.

A row is written by the commit that removes the file's mail, so it exists exactly if the mail left the
spool. If other outputs still need the mail, the row names it, and counts when the mail is gone.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from functions.delivery.engine import Outcome
from functions.processors.file.owned import OwnedFile

TABLE: Final = """
CREATE TABLE IF NOT EXISTS placed_file (
    n INTEGER PRIMARY KEY, seq INTEGER NOT NULL, at REAL NOT NULL, root BLOB NOT NULL,
    folder BLOB NOT NULL, name BLOB NOT NULL, witness TEXT NOT NULL, size INTEGER NOT NULL);
"""

_INSERT: Final = "INSERT OR IGNORE INTO placed_file VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_FREE: Final = """
SELECT n, at, root, folder, name, witness, size FROM placed_file
WHERE n <= ? AND (seq = 0 OR seq NOT IN (SELECT seq FROM mail)) ORDER BY n LIMIT ?
"""
_LET_GO: Final = "UPDATE placed_file SET seq = 0 WHERE seq <> 0 AND seq NOT IN (SELECT seq FROM mail)"


class Record(NamedTuple):
    """A row: its number, when it was written (Unix time), and the file."""

    n: int
    at: float
    file: OwnedFile


class Records:
    """Numbers and writes the rows of one part. All methods belong to the event loop."""

    def __init__(self) -> None:
        self.last = 0
        """The number of the last row."""

    def open(self, db: sqlite3.Connection) -> bool:
        """Continue the numbers of a database that was opened; True if it has rows."""
        try:
            last = db.execute("SELECT max(n) FROM placed_file").fetchone()[0]
            if last is not None:
                # A sequence number may be given again from now on, so no row may name a mail of an
                # earlier process that is gone. If this fails, such a row waits for the other mail.
                with contextlib.suppress(sqlite3.Error):
                    db.execute(_LET_GO)
        except sqlite3.OperationalError as error:
            _expect_no_table(error)
            last = None
        self.last = max(self.last, last or 0)
        return last is not None

    def write(self, db: sqlite3.Connection, outcomes: Iterable[Outcome], seq: int = 0) -> None:
        """Write the rows of placed files, in the caller's transaction. `seq` is their mail's number if
        it stays in the spool."""
        rows = []
        for outcome in outcomes:
            if outcome.placed is None:
                continue
            file: OwnedFile | None = getattr(outcome.placed, "owned", None)
            if file is not None:
                self.last += 1
                rows.append((self.last, seq, time.time(), *file))
        if not rows:
            return
        try:
            db.executemany(_INSERT, rows)
        except sqlite3.OperationalError as error:
            _expect_no_table(error)
            db.execute(TABLE)
            db.executemany(_INSERT, rows)


def free(db: sqlite3.Connection, until: int, most: int) -> list[Record]:
    """The first rows, up to this number, whose mails have left the spool."""
    try:
        rows = db.execute(_FREE, (until, most)).fetchall()
    except sqlite3.OperationalError as error:
        _expect_no_table(error)
        return []
    return [Record(n, at, OwnedFile(*file)) for n, at, *file in rows]


def waiting(db: sqlite3.Connection, until: int) -> int:
    """The number of rows, up to this one, whose mails are in the spool."""
    try:
        found: int = db.execute("SELECT count(*) FROM placed_file WHERE n <= ?", (until,)).fetchone()[0]
    except sqlite3.OperationalError as error:
        _expect_no_table(error)
        return 0
    return found


def deletion(records: Sequence[Record]) -> str:
    """The statement that deletes rows."""
    return f"DELETE FROM placed_file WHERE n IN ({', '.join(str(int(one.n)) for one in records)})"  # noqa: S608 - numbers


def _expect_no_table(error: sqlite3.OperationalError) -> None:
    """The table is made with its first row. Raises other errors."""
    if "no such table" not in str(error):
        raise error
