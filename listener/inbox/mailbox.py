"""What one viewer may see of the inboxes: lists, searches, marks and tags."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from listener.inbox.index import Index
from listener.inbox.query import Search, search_of
from listener.inbox.words import clean_tag

_COLUMNS: Final = "id, inbox, path, mail_id, created, witness, summary"
_NEWEST: Final = "ORDER BY created DESC, seq DESC"
_AMONG: Final = "id IN (SELECT value FROM json_each(?))"
_MAIL_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


class Row(NamedTuple):
    """A mail of the index. `created` is Unix milliseconds, `summary` what never changes of Mailpit's
    MessageSummary."""

    id: str
    inbox: str
    path: Path
    mail_id: str
    created: int
    witness: str
    summary: dict[str, Any]


class Span(NamedTuple):
    """When mails were received, in Unix milliseconds: from `since` to `until`, and earlier than `before`. 0
    is no bound."""

    since: int = 0
    until: int = 0
    before: int = 0


ALWAYS: Final = Span()


class Mailbox:
    """The mails of some inboxes; `inboxes` None is all. Raises sqlite3.Error if the disk fails."""

    def __init__(self, index: Index, inboxes: frozenset[str] | None) -> None:
        self._index = index
        self.inboxes = inboxes
        self._names = json.dumps(sorted(inboxes)) if inboxes is not None else ""
        self._mine = "inbox IN (SELECT value FROM json_each(?))" if inboxes is not None else "? = ''"

    def sees(self, inbox: str) -> bool:
        """True if mails of that inbox are shown."""
        return self.inboxes is None or inbox in self.inboxes

    def names(self) -> list[str]:
        """The inboxes that hold mail."""
        rows = self._index.rows(f"SELECT DISTINCT inbox FROM mail WHERE {self._mine}", (self._names,))  # noqa: S608 - a constant
        return sorted(name for (name,) in rows)

    def page(
        self, start: int, limit: int, span: Span = ALWAYS, search: Search | None = None
    ) -> dict[str, Any]:
        """Mailpit's MessagesSummary: the newest mails from `start` on, all for a limit of 0."""
        condition, values = self._where(search, span)
        total, unread = self.totals()
        if search is None:
            matching = total, unread
            rows = self._select(f"{condition} {_NEWEST} LIMIT ? OFFSET ?", (*values, limit or -1, start))
        else:
            # One pass finds and counts, because a short term reads the texts of all mails.
            seen = "EXISTS (SELECT 1 FROM state.seen s WHERE s.id = mail.id)"
            statement = f"SELECT seq, {seen} FROM mail WHERE {condition} {_NEWEST}"  # noqa: S608 - built of constants
            found = self._index.rows(statement, values)
            matching = len(found), sum(not is_seen for _, is_seen in found)
            chosen = [seq for seq, _ in found[start : start + limit if limit else None]]
            among = " ".join(["seq IN (SELECT value FROM json_each(?))", _NEWEST])
            rows = self._select(among, (json.dumps(chosen),))
        return {
            "total": total,
            "unread": unread,
            "count": len(rows),
            "messages_count": matching[0],
            "messages_unread": matching[1],
            "start": start,
            "tags": self.tags(),
            "messages": self.summaries(rows),
        }

    def totals(self) -> tuple[int, int]:
        """The number of mails, and of those that are not read."""
        return self._count(self._mine, (self._names,))

    def size(self) -> int:
        """The size of all mails."""
        rows = self._index.rows(f"SELECT sum(size) FROM mail WHERE {self._mine}", (self._names,))  # noqa: S608 - a constant
        return rows[0][0] or 0

    def rows(self, search: Search | None = None) -> list[Row]:
        """All mails, or those of a search, the newest first."""
        condition, values = self._where(search)
        return self._select(f"{condition} {_NEWEST}", values)

    def newest(self, search: Search | None = None) -> Row | None:
        """The newest mail, or the newest of a search."""
        condition, values = self._where(search)
        return next(iter(self._select(f"{condition} {_NEWEST} LIMIT 1", values)), None)

    def oldest(self, search: Search, since: int, only: Iterable[str] | None = None) -> Row | None:
        """The oldest mail of a search that was received since then (Unix milliseconds); `only` are the only
        ids that count."""
        condition, values = self._where(search)
        among: tuple[str, ...] = ()
        if only is not None:
            condition, among = f"{condition} AND {_AMONG}", (json.dumps(list(only)),)
        statement = f"{condition} AND created >= ? ORDER BY created, seq LIMIT 1"
        return next(iter(self._select(statement, (*values, *among, since))), None)

    def find(self, mail: str) -> Row | None:
        """The mail with that id; of the id that the log gives, the newest stored file."""
        column = "mail_id" if _MAIL_ID.fullmatch(mail) else "id"
        statement = f"{self._mine} AND {column} = ? {_NEWEST} LIMIT 1"
        return next(iter(self._select(statement, (self._names, mail))), None)

    def found(self, ids: Iterable[str]) -> list[Row]:
        """The mails with these ids."""
        condition = " AND ".join([self._mine, _AMONG])
        return self._select(condition, (self._names, json.dumps(list(ids))))

    def summaries(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Mailpit's MessageSummary of each mail."""
        chosen = json.dumps([row.id for row in rows])
        seen = {mail for (mail,) in self._index.rows(f"SELECT id FROM state.seen WHERE {_AMONG}", (chosen,))}  # noqa: S608 - a constant
        tags: dict[str, list[str]] = {}
        statement = f"SELECT id, name FROM state.tag WHERE {_AMONG} ORDER BY name"  # noqa: S608 - a constant
        for mail, name in self._index.rows(statement, (chosen,)):
            tags.setdefault(mail, []).append(name)
        return [
            {
                "ID": row.id,
                "Read": row.id in seen,
                "Created": go_time(row.created),
                "Tags": tags.get(row.id, []),
                **row.summary,
            }
            for row in rows
        ]

    def mark(self, rows: Iterable[Row], *, read: bool) -> list[Row]:
        """Mark mails as read or unread. Returns those that were not so."""
        now, changed = int(time.time()), []
        with self._index.transaction() as db:
            for row in rows:
                if read:
                    done = db.execute("INSERT OR IGNORE INTO state.seen VALUES (?, ?)", (row.id, now))
                else:
                    done = db.execute("DELETE FROM state.seen WHERE id = ?", (row.id,))
                if done.rowcount:
                    changed.append(row)
        return changed

    def tags(self) -> list[str]:
        """All tags in use."""
        return list(self.tag_counts())

    def tag_counts(self) -> dict[str, int]:
        """Each tag, and its number of mails."""
        statement = (
            f"SELECT min(t.name), count(*) FROM state.tag t JOIN mail USING (id) WHERE {self._mine}"  # noqa: S608 - a constant
            " GROUP BY t.name ORDER BY t.name"
        )
        return dict(self._index.rows(statement, (self._names,)))

    def set_tags(self, rows: Iterable[Row], tags: Iterable[str]) -> None:
        """Give mails these tags, and no others."""
        wanted = list(dict.fromkeys(name for one in tags if (name := clean_tag(one))))
        with self._index.transaction() as db:
            for row in rows:
                db.execute("DELETE FROM state.tag WHERE id = ?", (row.id,))
                self._index.add_tags(row.id, wanted)

    def rename_tag(self, tag: str, name: str) -> bool:
        """Rename a tag of all mails. Returns False if no mail has it. Raises ValueError for no name, and
        for that of another tag, as there."""
        wanted = clean_tag(name)
        if not wanted:
            raise ValueError(f"invalid tag name: {wanted}")
        rows = self._tagged(tag)
        if rows and wanted.lower() != tag.lower() and self._tagged(wanted):
            raise ValueError(f"tag already exists: {wanted}")
        with self._index.transaction() as db:
            for mail in rows:
                db.execute("DELETE FROM state.tag WHERE id = ? AND name = ?", (mail, tag))
                self._index.add_tags(mail, [wanted])
        return bool(rows)

    def delete_tag(self, tag: str) -> bool:
        """Take a tag from all mails. Returns False if no mail has it."""
        rows = self._tagged(tag)
        with self._index.transaction() as db:
            db.executemany("DELETE FROM state.tag WHERE id = ? AND name = ?", [(mail, tag) for mail in rows])
        return bool(rows)

    def _tagged(self, tag: str) -> list[str]:
        statement = f"SELECT id FROM mail JOIN state.tag t USING (id) WHERE {self._mine} AND t.name = ?"  # noqa: S608 - a constant
        return [mail for (mail,) in self._index.rows(statement, (self._names, tag))]

    def _where(self, search: Search | None, span: Span = ALWAYS) -> tuple[str, tuple[str | int, ...]]:
        condition = self._mine
        values: tuple[str | int, ...] = (self._names,)
        if search is not None:
            condition, values = f"{condition} AND {search.condition}", (*values, *search.values)
        for sign, moment in zip((">=", "<=", "<"), span, strict=True):
            if moment:
                condition, values = f"{condition} AND created {sign} ?", (*values, moment)
        return condition, values

    def _count(self, condition: str, values: Sequence[str | int]) -> tuple[int, int]:
        seen = "count(*) - count((SELECT 1 FROM state.seen s WHERE s.id = mail.id))"
        rows = self._index.rows(f"SELECT count(*), {seen} FROM mail WHERE {condition}", values)  # noqa: S608 - built of constants
        return rows[0][0], rows[0][1]

    def _select(self, rest: str, values: Sequence[str | int]) -> list[Row]:
        rows = self._index.rows(f"SELECT {_COLUMNS} FROM mail WHERE {rest}", values)  # noqa: S608 - built of constants
        return [
            Row(mail, inbox, Path(os.fsdecode(path)), mail_id, created, witness, json.loads(summary))
            for mail, inbox, path, mail_id, created, witness, summary in rows
        ]


def search_in(text: str, zone: str) -> Search:
    """The search of a request. Raises ValueError if it is empty."""
    if not text.strip():
        raise ValueError("Error: no search query")
    return search_of(text, zone)


def go_time(ms: int) -> str:
    """A moment as Go writes it (RFC 3339): UTC, with as many digits as it has."""
    text = datetime.fromtimestamp(ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    rest = f"{ms % 1_000:03d}".rstrip("0")
    return f"{text}.{rest}Z" if rest else f"{text}Z"
