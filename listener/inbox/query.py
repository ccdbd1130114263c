"""Searches in the words of Mailpit: terms that all must match, as conditions of SQL."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from listener.inbox.words import searchable

_SIZE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s?([kKmM][bB]?)?")
_UNITS: Final = {"": 1, "k": 1_024, "m": 1_048_576}
_LARGEST: Final = (1 << 63) - 1
_MOST: Final = 100
"""Terms of a search."""

_LONGEST_DATE: Final = 60
_WEEKDAYS: Final = frozenset({"mon", "tue", "wed", "thu", "fri", "sat", "sun"})

_LISTS: Final = {
    "to": ("a_to",),
    "from": ("a_from",),
    "cc": ("a_cc",),
    "bcc": ("a_bcc",),
    "reply-to": ("a_reply",),
    "addressed": ("a_to", "a_from", "a_cc", "a_bcc", "a_reply"),
    "subject": ("subject",),
    "message-id": ("message_id",),
}
_FLAGS: Final = {
    "is:read": ("id IN (SELECT id FROM state.seen)", False),
    "is:unread": ("id IN (SELECT id FROM state.seen)", True),
    "is:tagged": ("id IN (SELECT id FROM state.tag)", False),
    "has:attachment": ("attachments > 0", False),
    "has:attachments": ("attachments > 0", False),
    "has:inline": ("inlines > 0", False),
    "has:inlines": ("inlines > 0", False),
}
_DAYS: Final = ("%Y/%m/%d", "%m/%d/%Y", "%d.%m.%Y", "%b %d %Y", "%B %d %Y", "%d %b %Y", "%d %B %Y")
_TIMES: Final = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S %z")
_DATES: Final = (
    "%Y-%m",
    "%Y/%m",
    "%Y",
    "%Y-%m-%d %H:%M:%S %z",
    *(day + time for day in _DAYS for time in _TIMES),
)


class Search(NamedTuple):
    """The condition of a search, and the terms that mean nothing and are left out."""

    condition: str
    values: tuple[str | int, ...]
    ignored: tuple[str, ...]


def split(text: str) -> list[str]:
    """The terms of a search: words, and whole phrases where quotes are."""
    terms, term, quoted = [], "", False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character.isspace() and not quoted:
            terms.append(term.strip())
            term = ""
        else:
            term += character
    return [one for one in [*terms, term.strip()] if one][:_MOST]


def search_of(text: str, zone: str = "") -> Search:
    """The condition for rows of `mail`. `zone` is the time zone of dates without one (the default, and for
    an unknown one: this computer's)."""
    text = text.encode("utf-8", "replace").decode()  # SQLite's texts hold no lone surrogates
    conditions: list[str] = []
    values: list[str | int] = []
    ignored: list[str] = []
    for term in split(text):
        negated = len(term) > 1 and term[0] in "-!"
        word = term[1:] if negated else term
        found = _condition(word, negated, zone)
        if found is None:
            ignored.append(term)
            continue
        conditions.append(found[0])
        values += found[1]
    return Search(" AND ".join(conditions) or "1", tuple(values), tuple(ignored))


def _condition(word: str, negated: bool, zone: str) -> tuple[str, list[str | int]] | None:
    if not any(character.isalnum() for character in word):
        return None
    if (flag := _FLAGS.get(word.lower())) is not None:
        condition, inverse = flag
        return (f"NOT ({condition})" if negated is not inverse else condition), []
    name, _, value = word.partition(":")
    name = name.lower() if value else ""
    if name in _LISTS:
        # A subject is compared as it is, because its quotes and commas are its own.
        term = value.lower() if name == "subject" else searchable(value)
        if not term:
            return None
        condition = " OR ".join(f"instr({column}, ?) > 0" for column in _LISTS[name])
        return _negated(condition, negated), [term] * len(_LISTS[name])
    if name == "tag":
        term = searchable(value)
        return (
            (_negated("id IN (SELECT id FROM state.tag WHERE name = ?)", negated), [term]) if term else None
        )
    if name in ("before", "after"):
        moment = date_of(value, zone)
        sign = "<=" if (name == "before") is not negated else ">="
        return None if moment is None else (f"created {sign} ?", [moment])
    if name in ("larger", "smaller") and (size := size_of(value)):
        return f"size {'>' if (name == 'larger') is not negated else '<'} ?", [size]
    return _text(searchable(word), negated)


def _text(term: str, negated: bool) -> tuple[str, list[str | int]] | None:
    if not term:
        return None
    if len(term) < 3:  # shorter than the three characters that the index goes by
        return _negated("seq IN (SELECT seq FROM pairs WHERE instr(text, ?) > 0)", negated), [term]
    return _negated("seq IN (SELECT rowid FROM words WHERE words MATCH ?)", negated), [f'"{term}"']


def _negated(condition: str, negated: bool) -> str:
    return f"NOT ({condition})" if negated else f"({condition})"


def size_of(text: str) -> int:
    """A size in bytes: `2k`, `1.5 MB`; 0 for no size. At most the largest number of SQLite."""
    found = _SIZE.fullmatch(text.strip())
    return min(int(float(found[1]) * _UNITS[(found[2] or "").lower()[:1]]), _LARGEST) if found else 0


def date_of(text: str, zone: str) -> int | None:
    """A moment in Unix milliseconds: a date, with a time or without, or Unix seconds or milliseconds; None
    for no moment."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) in (10, 13):
        return int(text) * (1_000 if len(text) == 10 else 1)
    moment = _parsed(text)
    if moment is None:
        return None
    try:
        if moment.tzinfo is None and zone:
            moment = moment.replace(tzinfo=_zone(zone))
        return int(moment.timestamp() * 1_000)
    except (OverflowError, ValueError, OSError):
        return None


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    text = " ".join(text[:_LONGEST_DATE].replace(",", " ").split())
    weekday = text[:3].lower() in _WEEKDAYS
    text = text.partition(" ")[2] if weekday else text
    for form in _DATES:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # an unknown zone is a KeyError
        return datetime.now(UTC).astimezone().tzinfo
