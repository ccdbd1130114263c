"""The chain of Received fields, newest first, as far as it can be read (RFC 5321 section 4.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from listener.mailauth.dkim.fields import HeaderBlock, unfolded

MAX_HOPS: Final = 25
MAX_FIELD: Final = 4_096
MAX_VALUE: Final = 160
"""Most characters to keep of one clause."""

_MAX_DEPTH: Final = 5  # most nested comments
_COMMENT: Final = re.compile(rb"\([^()]*\)")
_FROM_COMMENT: Final = re.compile(rb"\s*from\s+[^\s()]+\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)", re.IGNORECASE)
# The form that most servers write, in plain ASCII and with comments that hold no others.
_WORD: Final = r"((?!(?i:from|by|via|with|id|for)[ \t;])[!-'*-:<-~]++)"
_NOTE: Final = r"(?:[ \t]++\([\t -'*-~]*+\))?+"
_USUAL: Final = re.compile(
    rf"from[ \t]++{_WORD}(?:[ \t]++\(([\t -'*-~]*+)\))?+[ \t]++by[ \t]++{_WORD}{_NOTE}"
    rf"[ \t]++with[ \t]++{_WORD}{_NOTE}[ \t]++id[ \t]++{_WORD}{_NOTE}(?:[ \t]++for[ \t]++{_WORD})?+"
    rf"[ \t]*+;([\t -:<-~]*+)"
)
_CLAUSES: Final[Mapping[bytes, str]] = {
    name.encode(): name for name in ("from", "by", "via", "with", "id", "for")
}


def received_chain(block: HeaderBlock) -> tuple[dict[str, str], ...]:
    """One mapping a hop: `from`, `by`, `via`, `with`, `id`, `for`, `date`, and `fromComment` for the
    first comment after `from`, which usually holds the sending address."""
    fields = block.by_name.get(b"received", ())
    return tuple([_hop(unfolded(raw)[:MAX_FIELD]) for raw in fields[:MAX_HOPS]])


def _hop(value: bytes) -> dict[str, str]:
    usual = _USUAL.fullmatch(value.decode("latin-1"))
    if usual is None:
        return _any_hop(value)
    sender, comment, by, protocol, number, recipient, date = usual.groups()
    hop = {
        "from": sender[:MAX_VALUE],
        "by": by[:MAX_VALUE],
        "with": protocol[:MAX_VALUE],
        "id": number[:MAX_VALUE],
    }
    if recipient is not None:
        hop["for"] = recipient[:MAX_VALUE]
    if comment is not None:
        hop["fromComment"] = " ".join(comment.split())[:MAX_VALUE]
    if text := " ".join(date.split()):
        hop["date"] = text[:MAX_VALUE]
    return hop


def _any_hop(value: bytes) -> dict[str, str]:
    hop: dict[str, str] = {}
    clauses, semicolon, date = value.rpartition(b";")
    if not semicolon:
        clauses, date = value, b""
    comment = _FROM_COMMENT.match(clauses)
    for _ in range(_MAX_DEPTH):
        if b"(" not in clauses:
            break
        clauses = _COMMENT.sub(b" ", clauses)
    words = clauses.split()
    # Without a blank behind it the last word is text, whatever it is.
    last = words.pop() if words and not clauses[-1:].isspace() else b""
    name, text = "", b""
    for word in words:
        found = _CLAUSES.get(word.lower())
        if found is None:
            text += b" " + word
            continue
        if name:
            hop.setdefault(name, _clean(text))
        name, text = found, b""
    if name:
        hop.setdefault(name, _clean(text + b" " + last))
    if comment is not None:
        hop["fromComment"] = _clean(comment[1])
    if date.strip():
        hop["date"] = _clean(date)
    return hop


def _clean(value: bytes) -> str:
    text = b" ".join(value.split()).decode("utf-8", "replace")
    if not (text.isascii() and text.isprintable()):
        text = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return text[:MAX_VALUE]
