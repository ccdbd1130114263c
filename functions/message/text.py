"""Makes a stranger's text harmless: for names and fields, for one line, for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

CONTROLS: Final = "\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
"""The inside of a character class: C0 and C1 controls, line ends, characters that change the direction
of writing or have no width, lone surrogates. Joiners (U+200C, U+200D) are not included, because scripts
need them, and neither are wide and unbreakable blanks."""

UNFIT_FOR_FIELD: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no header field's value can hold (RFC 5322 section 2.2, RFC 6532 section 3): the C0
and C1 controls except the tab, and lone surrogates."""

_CONTROL: Final = re.compile(f"[{CONTROLS}]")


def printable(text: str) -> str:
    """`text` without CONTROLS, for names and values that are passed on as data."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """`text` with a blank for each character that `str.isprintable` refuses, and no blanks around it:
    for records and messages. Every separator except the blank, and every control and format character,
    is replaced."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def escaped(text: str) -> str:
    r"""`text` with an escape sequence of Python (`\n`, `\x1b`, `\u202e`) for each character that
    `str.isprintable` refuses: for logs and terminals, which show the original text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(words: Sequence[str], most: int = 4, joint: str = "or") -> str:
    """Words as a list of a sentence: `a, b or c`; of a long one the first and the number of others."""
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} others"]
    return f" {joint} ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""
