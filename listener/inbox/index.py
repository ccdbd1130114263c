"""The index of the inboxes: SQLite in the spool's folder, made from the stored files.

`index.db` can be made again at any time. `state.db` beside it has the marks of people: what was read, and
tags; it goes by the ids of mails, so it survives.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from functions.message.addresses import Address
from listener.inbox.entry import Entry
from listener.inbox.words import pairs_of

log = logging.getLogger("smtp_relay.inbox")

VERSION: Final = 2

_READERS: Final = 3
_WAY: Final = 0.01
"""Seconds for which one mail waits for requests."""

_STEP: Final = 0.001

_FORGOTTEN: Final = 30 * 86_400
"""Seconds after which marks of mails that are gone are removed."""

_INDEX: Final = f"""
BEGIN;
CREATE TABLE mail (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, inbox TEXT NOT NULL, path BLOB NOT NULL UNIQUE,
    mail_id TEXT NOT NULL, created INTEGER NOT NULL, size INTEGER NOT NULL, witness TEXT NOT NULL,
    message_id TEXT NOT NULL, subject TEXT NOT NULL, attachments INTEGER NOT NULL, inlines INTEGER NOT NULL,
    a_from TEXT NOT NULL, a_to TEXT NOT NULL, a_cc TEXT NOT NULL, a_bcc TEXT NOT NULL, a_reply TEXT NOT NULL,
    summary TEXT NOT NULL, error TEXT NOT NULL
);
CREATE INDEX newest ON mail (
    created DESC, seq DESC, id, inbox, subject, a_from, a_to, a_cc, a_bcc, a_reply, size, attachments, inlines
);
CREATE INDEX by_inbox ON mail (inbox, created DESC, seq DESC);
CREATE INDEX by_mail ON mail (mail_id);
CREATE TABLE pairs (seq INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(text, tokenize = 'trigram case_sensitive 1');
PRAGMA user_version = {VERSION};
COMMIT;
"""
_STATE: Final = """
CREATE TABLE IF NOT EXISTS state.seen (id TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state.tag (
    id TEXT NOT NULL, name TEXT NOT NULL COLLATE NOCASE, since INTEGER NOT NULL, PRIMARY KEY (id, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS state.by_name ON tag (name);
CREATE TABLE IF NOT EXISTS state.tagged (id TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;
"""


class Index:
    """One connection that changes both databases and some that read them, for all threads of the process: a
    list does not wait for mails that are added. Raises sqlite3.Error if the disk
    fails. An index that turns out to be damaged is removed, so that it is not current any more; damaged marks
    are moved aside when it is opened."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._lock = threading.RLock()
        _check_marks(folder / "state.db")
        try:
            self._db = self._open()
        except sqlite3.DatabaseError:
            rebuild(folder)
            self._db = self._open()
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        for _ in range(_READERS):
            self._readers.put(self._open())
        self._asked = 0
        found = (folder / "index.db").stat()
        self._file = found.st_dev, found.st_ino

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one change that happens as a whole."""
        with self._lock, self._remove_if_damaged():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        db = self._readers.get()
        try:
            with self._remove_if_damaged():
                return db.execute(statement, values).fetchall()
        finally:
            self._readers.put(db)

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """A request is answered meanwhile, which the one that adds mails gives way to. For one thread."""
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1

    def give_way(self) -> None:
        """Let requests be answered first, for a moment: mails are added even if requests never end."""
        end = time.monotonic() + _WAY
        while self._asked and time.monotonic() < end:
            time.sleep(_STEP)

    def known(self) -> dict[bytes, str]:
        """The witness of each file, by its path."""
        return dict(self.rows("SELECT path, witness FROM mail"))

    def known_of(self, paths: Iterable[Path]) -> dict[bytes, str]:
        """The witnesses of some files, by their paths."""
        found: dict[bytes, str] = {}
        for path in paths:
            found.update(self.rows("SELECT path, witness FROM mail WHERE path = ?", (os.fsencode(path),)))
        return found

    def put(self, entries: Iterable[Entry]) -> list[Entry]:
        """Add mails, in place of what their files were before. Returns those whose ids are new."""
        new = []
        with self.transaction() as db:
            for entry in entries:
                before = db.execute(
                    "SELECT seq, id FROM mail WHERE path = ? OR id = ?", (os.fsencode(entry.path), entry.id)
                ).fetchall()
                for seq, _ in before:
                    _drop(db, seq)
                _insert(db, entry)
                if all(each != entry.id for _, each in before):
                    new.append(entry)
                if (
                    entry.tags
                    and not db.execute("SELECT 1 FROM state.tagged WHERE id = ?", (entry.id,)).fetchone()
                ):
                    self.add_tags(entry.id, entry.tags)
        return new

    def add_tags(self, mail: str, tags: Iterable[str]) -> None:
        """Give a mail tags, spelled as on other mails of its inbox. Belongs into a transaction."""
        now = int(time.time())
        # From now on the tags that its header asks for are not given again.
        self._db.execute("INSERT OR IGNORE INTO state.tagged VALUES (?, ?)", (mail, now))
        for name in tags:
            here = self._db.execute(
                "SELECT t.name FROM state.tag t JOIN mail m USING (id) WHERE t.name = ?"
                " AND m.inbox = (SELECT inbox FROM mail WHERE id = ?) LIMIT 1",
                (name, mail),
            ).fetchone()
            values = (mail, here[0] if here else name, now)
            self._db.execute("INSERT OR IGNORE INTO state.tag VALUES (?, ?, ?)", values)

    def drop(self, paths: Iterable[Path]) -> list[tuple[str, str]]:
        """Remove files from the index. Returns ids and inboxes of the mails that it had."""
        gone = []
        with self.transaction() as db:
            for path in paths:
                statement = "SELECT seq, id, inbox FROM mail WHERE path = ?"
                for seq, mail, inbox in db.execute(statement, (os.fsencode(path),)).fetchall():
                    _drop(db, seq)
                    gone.append((mail, inbox))
        return gone

    def forget_marks(self) -> None:
        """Remove marks of mails that are gone for a month."""
        old = int(time.time()) - _FORGOTTEN
        with self.transaction() as db:
            for table in ("state.seen", "state.tag", "state.tagged"):
                db.execute(f"DELETE FROM {table} WHERE since < ? AND id NOT IN (SELECT id FROM mail)", (old,))  # noqa: S608 - a constant

    def is_current(self) -> bool:
        """False if the index was removed, to be made again."""
        try:
            found = (self.folder / "index.db").stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._file

    def close(self) -> None:
        """Close both databases."""
        with self._lock:
            self._db.close()
        for reader in [self._readers.get() for _ in range(_READERS)]:
            reader.close()
            self._readers.put(reader)  # a later use raises

    @contextlib.contextmanager
    def _remove_if_damaged(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _is_damage(error) and self.is_current():
                log.warning("the index of the inbox is damaged (%s): it is made again", error)
                rebuild(self.folder)
            raise

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.folder / "index.db", check_same_thread=False, isolation_level=None)
        try:
            db.execute("ATTACH ? AS state", (str(self.folder / "state.db"),))
            for name in ("main", "state"):
                db.execute(f"PRAGMA {name}.journal_mode = WAL")
                db.execute(f"PRAGMA {name}.synchronous = NORMAL")
            db.execute("PRAGMA busy_timeout = 5000")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError("another version made the index")
            if version == 0:
                db.executescript(_INDEX)
            db.executescript(_STATE)
        except BaseException:
            db.close()
            raise
        return db


def rebuild(folder: Path) -> None:
    """Remove the index, so that its next use makes it again. Marks stay."""
    for suffix in ("", "-wal", "-shm"):
        (folder / f"index.db{suffix}").unlink(missing_ok=True)


def _check_marks(path: Path) -> None:
    """Move marks that cannot be read aside."""
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        found = str(error)
    if found != "ok":
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        log.error("%s is damaged (%s): the inbox forgets what was read, and tags; it is kept as %s",
                  path, found, aside.name)  # fmt: skip


def _is_damage(error: sqlite3.Error) -> bool:
    # An error that Python raises itself has no code of SQLite.
    code = vars(error).get("sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _drop(db: sqlite3.Connection, seq: int) -> None:
    db.execute("DELETE FROM mail WHERE seq = ?", (seq,))
    db.execute("DELETE FROM words WHERE rowid = ?", (seq,))
    db.execute("DELETE FROM pairs WHERE seq = ?", (seq,))


def _insert(db: sqlite3.Connection, entry: Entry) -> None:
    lists = [_plain(each) for each in (entry.sender, entry.to, entry.cc, entry.bcc, entry.reply_to)]
    done = db.execute(
        "INSERT INTO mail (id, inbox, path, mail_id, created, size, witness, message_id, subject,"
        " attachments, inlines, a_from, a_to, a_cc, a_bcc, a_reply, summary, error)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.id, entry.inbox, os.fsencode(entry.path), entry.mail_id, entry.created, entry.size,
            entry.witness, _safe(entry.message_id.lower()), _safe(entry.subject.lower()), entry.attachments,
            entry.inlines, *lists, json.dumps(summary_of(entry)), entry.error,
        ),
    )  # fmt: skip
    text = _safe(entry.text)
    db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (done.lastrowid, text))
    db.execute("INSERT INTO pairs VALUES (?, ?)", (done.lastrowid, pairs_of(text)))


def summary_of(entry: Entry) -> dict[str, Any]:
    """The parts of Mailpit's MessageSummary that never change."""
    return {
        "MessageID": entry.message_id,
        "From": address_json(entry.sender[0] if entry.sender else Address("", "")),
        "To": [address_json(one) for one in entry.to],
        "Cc": [address_json(one) for one in entry.cc],
        "Bcc": [address_json(one) for one in entry.bcc],
        "ReplyTo": [address_json(one) for one in entry.reply_to],
        "Subject": entry.subject,
        "Username": entry.username,
        "Size": entry.size,
        "Attachments": entry.attachments,
        "Snippet": entry.snippet,
    }


def address_json(one: Address) -> dict[str, str]:
    """An address as Mailpit writes it."""
    return {"Name": one.name, "Address": one.address}


def _plain(addresses: Iterable[Address]) -> str:
    return _safe("\n".join(f"{one.name} {one.address}" for one in addresses).lower())


def _safe(text: str) -> str:
    """Without lone surrogates and NUL, which SQLite's texts cannot hold."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()
