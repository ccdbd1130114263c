"""Reads header fields from a header block of bytes, within bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from functions.message.headers import BOM, CRLF, field_end, field_patterns, unfold

MAX_FIELDS: Final = 2_000
MAX_VALUE: Final = 65_536
"""Most bytes of a value to read; a list of a thousand addresses fits."""

_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")


def iter_fields(head: bytes, most: int = MAX_FIELDS) -> Iterator[tuple[bytes, bytes]]:
    """Name as written and unfolded value of each field, from the top. Skips lines that are not fields,
    and everything after `most` fields."""
    at = count = 0
    while at < len(head) and count < most:
        end = field_end(head, at)
        field = _FIELD.match(head, at, end)
        if field is not None:
            count += 1
            yield field[1], unfold(head[field.end() : min(end, field.end() + MAX_VALUE)])
        at = end


def first_value(head: bytes, name: bytes) -> bytes | None:
    """The unfolded value of the first field of this name, else None."""
    # Where the word first stands, there the field mostly is, and a pattern takes four times as long.
    low, word = head.lower(), name.lower()
    at = low.find(word)
    if at < 0:
        return None
    start = at + len(word) + 1
    if low[start - 1 : start] != b":" or low[at - 2 : at] != CRLF:
        first, other = _patterns(name)
        found = first.match(head) or other.search(head)
        if found is None:
            return None
        start = found.end()
    return unfold(head[start : min(field_end(head, start), start + MAX_VALUE)])


def every_value(head: bytes, name: bytes) -> Iterator[bytes]:
    """The unfolded values of all fields of this name, from the top."""
    first, other = _patterns(name)
    found = first.match(head) or other.search(head)
    while found is not None:
        end = field_end(head, found.end())
        yield unfold(head[found.end() : min(end, found.end() + MAX_VALUE)])
        found = other.search(head, end - 2)


def all_values(head: bytes, name: bytes, *, marked: bool = False) -> Iterator[tuple[bytes, bool]]:
    """The values of all fields of this name from the top, on one line and whole. The flag is false for a
    text that only a lenient reader takes for such a field (`headers.field_patterns`); with `marked` a byte
    order mark in front of a name does not make it such a text."""
    first, other = _lenient_patterns(name)
    found = first.match(head) or other.search(head)
    while found is not None:
        end = field_end(head, found.end())
        line = found[0].strip(b"\r\n").removeprefix(BOM if marked else b"")
        sound = line.startswith(found[1]) and not line[len(found[1]) : -1].strip(b" \t")
        yield head[found.end() : end].replace(CRLF, b""), sound
        found = other.search(head, end - 2)


@lru_cache(maxsize=32)
def _patterns(name: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    return field_patterns([name.decode()])


@lru_cache(maxsize=32)
def _lenient_patterns(name: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    return field_patterns((), [name.decode()])
