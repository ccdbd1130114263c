"""Reads a part of the spool without a trace: no file is made or changed, no lock outlives a page.

A reader of SQLite's log keeps the log from starting anew, so each page is read in a transaction of
its own that takes some milliseconds, on a connection of its own. Between pages a reader may be
stopped for ever.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from functions.errors import ConfigError, Temporary
from functions.local.layout import Part, parts

T = TypeVar("T")

Row = tuple[Any, ...]

BRIEF: Final = 0.02
"""Seconds after which a page ends, with what was read so far."""

LONGEST: Final = 0.045
"""Seconds after which a statement that found too little is interrupted."""

MOST: Final = 500
"""Rows of a page."""

LOCKS: Final = Path("/proc/locks")
"""Linux lists the locks of all processes here."""

_FIRST: Final = -(1 << 63)
_NUMBER: Final = (
    "SELECT max(seq), max(seq) FILTER (WHERE id = ?)"
    " FROM (SELECT seq, id FROM mail WHERE seq > ? ORDER BY seq LIMIT 500)"
)

_TRIES: Final = 10
_PAUSE: Final = 0.02
_HELD: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGINT, signal.SIGTERM)


def parts_of(root: Path) -> list[Part]:
    """The parts of a spool folder; none if it does not exist. Raises Temporary if it cannot be read."""
    try:
        os.listdir(root)  # noqa: PTH208 - glob would hide an error
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = f"{root} cannot be read: {error.strerror} (run this as the server's user)"
        raise Temporary(reason) from error
    return list(parts(root))


def look(part: Part, read: Callable[[sqlite3.Connection], T]) -> T:
    """The result of `read`, in one transaction that sees one state of the database. Texts are bytes,
    because a damaged one may not be UTF-8. Raises Temporary if the part cannot be read."""
    reason: object = "it is changing"
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE)
        if part.trust.lost:
            raise Temporary(
                "the spool cannot be read: a sync failed, and its server has yet to write it anew"
            )
        try:
            before = _state(part)
            found = _read(part, read, *before)
            if _state(part) == before:
                return found
        except FileNotFoundError:
            reason = "its database is gone"
        except (OSError, sqlite3.Error) as error:
            reason = error
    raise Temporary(f"the spool cannot be read: {reason}")


def pages(part: Part, statement: str, start: Row) -> Iterator[Row]:
    """The rows of a query, page by page. `statement` takes the key of the last row (at first `start`) and
    returns rows in the order of their keys, each with its key in its first columns. Raises Temporary."""
    key: Row | None = start
    while key is not None:
        rows, whole = look(part, partial(page, statement=statement, values=key))
        yield from rows
        key = None if whole or not rows else rows[-1][: len(start)]


def page(db: sqlite3.Connection, statement: str, values: Row) -> tuple[list[Row], bool]:
    """The first rows of a query, and True if these are all."""
    end = time.monotonic() + BRIEF
    rows: list[Row] = []
    for row in db.execute(statement, values):
        rows.append(row)
        if len(rows) >= MOST or time.monotonic() > end:
            return rows, False
    return rows, True


def ids(part: Part) -> set[str]:
    """The ids of a part's unfinished mails. Raises ConfigError when the database cannot be read."""
    try:
        rows = pages(part, "SELECT seq, id FROM mail WHERE seq > ? ORDER BY seq", (_FIRST,))
        return {text(mail_id) for _, mail_id in rows}
    except Temporary as error:
        raise ConfigError(
            f"spool {part.folder}", error.reason, "move it away, or repair it with sqlite3"
        ) from error


def number_of(part: Part, mail_id: str) -> int | None:
    """The number of an unfinished mail, None if it is not in this part. It is found in steps, because no
    index has the ids. Raises Temporary."""
    last: int | None = _FIRST
    while last is not None:
        last, found = look(part, partial(_number, values=(mail_id, last)))
        if found is not None:
            return int(found)
    return None


def _number(db: sqlite3.Connection, values: Row) -> Row:
    """The last number of a step, and that of the mail if it is among them."""
    found: Row = db.execute(_NUMBER, values).fetchone()
    return found


def text(value: object) -> str:
    """A column that holds text, as far as it can be read."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def is_owned(root: Path) -> bool | None:
    """True if a server owns this spool folder, as far as the kernel tells: it lists the lock, and taking
    the lock to find out could keep a server from starting. None without such a list (macOS)."""
    try:
        inode = (root / "lock").stat().st_ino
    except OSError:
        return False
    try:
        locks = LOCKS.read_text(encoding="ascii")
    except OSError:
        return None
    return any(
        fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode)
        for line in locks.splitlines()
        if len(fields := line.split()) > 5
    )


def _state(part: Part) -> tuple[tuple[int, ...], bool, bool]:
    """The state of the part's files: the database, if its log holds anything, and if there is an index
    of the log. Without a log a changed database shows a server that started meanwhile."""
    found = os.stat(part.database)  # noqa: PTH116
    logged = _size(part.log) > 0
    index = _size(_index(part)) >= 0
    which = (found.st_dev, found.st_ino)
    return (which if logged else (*which, found.st_size, found.st_mtime_ns)), logged, index


def _read(
    part: Part, read: Callable[[sqlite3.Connection], T], _: tuple[int, ...], logged: bool, index: bool
) -> T:
    if not logged:
        # SQLite would make a log for reading it. A database without a log has no writer.
        return _transaction(part.database, "immutable=1", read)
    if index:
        return _transaction(part.database, "mode=ro&readonly_shm=1", read)
    # A backup, or a server that is just starting. SQLite would make an index beside it.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="smtp-relay-") as folder:
        for path in (part.database, part.log):
            shutil.copyfile(path, Path(folder) / path.name)
        return _transaction(Path(folder) / part.database.name, "mode=rw", read)


def _transaction(database: Path, how: str, read: Callable[[sqlite3.Connection], T]) -> T:
    # A relative path would become an authority of the URI.
    place = f"file:{quote(str(database.absolute()))}?{how}"
    with _unstopped(), contextlib.closing(sqlite3.connect(place, uri=True, isolation_level=None)) as db:
        db.text_factory = bytes
        end = time.monotonic() + LONGEST
        db.set_progress_handler(lambda: time.monotonic() > end, 10_000)
        db.execute("PRAGMA busy_timeout = 20")
        db.execute("BEGIN")
        return read(db)


@contextlib.contextmanager
def _unstopped() -> Iterator[None]:
    """Ctrl-Z and the like wait for the end of the transaction."""
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _index(part: Part) -> Path:
    return part.database.with_name(f"{part.database.name}-shm")


def _size(path: Path) -> int:
    """A file's size in bytes, -1 for none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except FileNotFoundError:
        return -1
