"""Texts as they are searched and shown in a list."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

MOST_TEXT: Final = 262_144
"""Characters of one mail that are searched."""

_SNIPPET: Final = 200
_UNWANTED: Final = dict.fromkeys(map(ord, (*map(chr, range(0x21)), *'<>",;()\ufeff\x7f')), " ")
_TAG_CHARACTERS: Final = re.compile(r"[^a-zA-Z0-9\-_.@ ]+")
_BLANKS: Final = re.compile(r"\s+")


def searchable(text: str) -> str:
    """The form in which texts and terms are compared: lower case, and one blank for each run of blanks,
    commas, quotes, semicolons and brackets."""
    return " ".join(text.translate(_UNWANTED).split()).lower()


def pairs_of(text: str) -> str:
    """The pairs of neighbours in a searchable text, each once, on lines: terms of one or two characters are
    searched in it, because it is far shorter than the text."""
    return "\n".join(map("".join, set(pairwise(text)))) or text


def snippet_of(text: str) -> str:
    """The beginning of a mail's text on one line."""
    line = _BLANKS.sub(" ", text[: _SNIPPET * 20].replace("\ufeff", " ")).strip()
    return line if len(line) <= _SNIPPET else line[:_SNIPPET] + "..."


def clean_tag(text: str) -> str:
    """A tag without the characters that no tag has."""
    return " ".join(_TAG_CHARACTERS.sub(" ", text).split())[:100]
