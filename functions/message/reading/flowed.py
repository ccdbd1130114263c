"""Texts that their sender wrapped for readers that do not wrap: `format=flowed` (RFC 3676)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_MARKS: Final = re.compile(r">*")
_SIGNATURE: Final = "-- "


def unwrapped(text: str, *, delsp: bool) -> str:
    """The text with its paragraphs joined and its stuffing removed (sections 4.1 to 4.5). Lines end in
    LF. A paragraph ends where the depth of quoting changes. `delsp` drops the blank at each soft break."""
    joined: list[str] = []
    paragraph: list[str] = []
    depth = -1
    for line in _lines(text):
        marks = len(_MARKS.match(line)[0])  # type: ignore[index]  # it matches every text
        content = line[marks:]
        stuffed = content.startswith(" ")
        content = content[1:] if stuffed else content
        if paragraph and (marks != depth or content == _SIGNATURE):
            joined.append("".join(paragraph))
            paragraph = []
        if not paragraph:
            depth = marks
            paragraph.append(line[:marks] + (" " if stuffed and marks else ""))
        if content.endswith(" ") and content != _SIGNATURE:
            paragraph.append(content[:-1] if delsp else content)
        else:
            joined.append("".join((*paragraph, content)))
            paragraph = []
    if paragraph:
        joined.append("".join(paragraph))
    return "\n".join(joined)


def _lines(text: str) -> Iterator[str]:
    """The lines one by one, because a list of short lines takes ten times the memory of the text."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]
