"""Where a mail's fields end and its body begins, for readers that show the mail.

`functions.message.headers.head_size` is what signatures, edits and checks work on; it takes every line up
to the first empty one for header, because other readers may. This module reads as the people who get
the mail expect. A byte order mark and the line that mailbox files put in front of a mail are not part of
the first field. Without an empty line the body begins at the first line that cannot be a field, except
that a single such line is skipped if only fields follow it up to an empty line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from functions.message.headers import BOM, CRLF, field_patterns, is_mailbox_line

_LINE_END: Final = rb"[^\r]*+(?:\r(?!\n)[^\r]*+)*+(?:\r\n|\Z)"
_FOLDED: Final = _LINE_END + rb"(?:[ \t]" + _LINE_END + rb")*+"
# One match takes all fields up to the first line that is none. Possessive, so it never goes back.
_FIELDS: Final = re.compile(rb"(?:(?!--)[!-9;-~]{1,997}+[ \t]{0,64}+:" + _FOLDED + rb")*+")
_LINE: Final = re.compile(_FOLDED)
_BLIND: Final = field_patterns((), ["bcc", "resent-bcc"])[0]

IsDelimiter = Callable[[bytes, bytes], bool]
"""True if a line (with its line end) separates parts, given the fields above it."""


def _never(line: bytes, fields: bytes) -> bool:
    return False


def read_block(
    data: bytes, start: int, end: int, *, most: int, is_delimiter: IsDelimiter = _never
) -> tuple[bytes, int]:
    """The fields of the mail or part in `data[start:end]`, at most `most` bytes of them and without other
    lines, and the place where its body begins."""
    if data.startswith(CRLF, start, end):
        return b"", start + 2
    kept: list[bytes] = []
    room = most
    at = _after_first_line(data, start, end)
    while True:
        stop = _end_of_fields(data, at, end)
        if stop > at:
            if room > 0:  # without this bound a header of short pieces takes many times its size
                kept.append(data[at : min(stop, at + room)])
                room -= len(kept[-1])
            at = stop
        if at >= end:
            return b"".join(kept), end
        if data.startswith(CRLF, at, end):
            return b"".join(kept), at + 2
        if kept and data.startswith(BOM, at, end) and _end_of_fields(data, at + 3, end) > at + 3:
            at += 3
            continue
        if not kept:
            return b"", start
        line_end = _end_of_line(data, at, end)
        if data.startswith(b"--", at, end) and is_delimiter(data[at:line_end], b"".join(kept)):
            return b"".join(kept), at
        if _BLIND.match(data, at, line_end) is not None:  # text of the body is shown, and this must not be
            at = line_end
            continue
        after = _end_of_fields(data, line_end, end)
        if after == line_end or not data.startswith(CRLF, after, end):
            return b"".join(kept), at
        at = line_end


def _after_first_line(data: bytes, start: int, end: int) -> int:
    """Behind a byte order mark and a mailbox file's line, in whichever order they stand."""
    at = start + len(BOM) if data.startswith(BOM, start, end) else start
    if is_mailbox_line(data[at : min(end, at + 100)]):
        line_end = data.find(CRLF, at, end)
        at = end if line_end < 0 else line_end + 2
        at += len(BOM) if data.startswith(BOM, at, end) else 0
    return at


def _end_of_line(data: bytes, at: int, end: int) -> int:
    """The end of a line that is no field, with the lines that continue it."""
    found = _LINE.match(data, at, end)
    return end if found is None else found.end()


def _end_of_fields(data: bytes, at: int, end: int) -> int:
    found = _FIELDS.match(data, at, end)
    return at if found is None else found.end()
