"""Making text that a stranger wrote harmless: for names and fields, for one line, for a terminal."""

from __future__ import annotations

import re
from typing import Final

CONTROLS: Final = "\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
"""The inside of a character class: C0 and C1 controls, ends of lines, characters that turn the direction
of writing or have no width, lone surrogates. Joiners (U+200C, U+200D) are none of them, because scripts
need them, nor are wide and unbreakable blanks."""

UNFIT_FOR_FIELD: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no header field's value can hold (RFC 5322 section 2.2, RFC 6532 section 3): the C0 and C1
controls but the tab, and lone surrogates."""

_CONTROL: Final = re.compile(f"[{CONTROLS}]")


def printable(text: str) -> str:
    """`text` without CONTROLS, for names and values that travel on as data."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """`text` with a blank for each character that `str.isprintable` refuses, and no blanks around it: for
    records and messages. Every separator but the blank, every control and format character goes."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def escaped(text: str) -> str:
    r"""`text` with an escape sequence of Python (`\n`, `\x1b`, `\u202e`) for each character that
    `str.isprintable` refuses: for logs and terminals, which show what was there."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
