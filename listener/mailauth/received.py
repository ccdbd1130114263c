"""The chain of Received fields, newest first, as far as it can be read (RFC 5321 section 4.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from listener.mailauth.dkim.fields import HeaderBlock

MAX_HOPS: Final = 25
MAX_FIELD: Final = 4_096
MAX_VALUE: Final = 160
"""Most characters to keep of one clause."""

_MAX_DEPTH: Final = 5  # most nested comments
_COMMENT: Final = re.compile(rb"\([^()]*\)")
_FROM_COMMENT: Final = re.compile(rb"\s*from\s+[^\s()]+\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)", re.IGNORECASE)
# The form that most servers write, in plain ASCII and with comments that hold no others.
_WORD: Final = rb"([!-'*-:<-~]++)"
_NOTE: Final = rb"(?:[ \t]++\([\t -'*-~]*+\))?+"
_USUAL: Final = re.compile(
    rb"from[ \t]++%b(?:[ \t]++\(([\t -'*-~]*+)\))?+[ \t]++by[ \t]++%b%b[ \t]++with[ \t]++%b%b"
    rb"[ \t]++id[ \t]++%b%b(?:[ \t]++for[ \t]++%b)?+[ \t]*+;([\t -:<-~]*+)"
    % (_WORD, _WORD, _NOTE, _WORD, _NOTE, _WORD, _NOTE, _WORD)
)
_CLAUSES: Final[Mapping[bytes, str]] = {
    name.encode(): name for name in ("from", "by", "via", "with", "id", "for")
}

_USUAL_NAMES: Final = ("from", "by", "with", "id", "for")


def received_chain(block: HeaderBlock) -> tuple[dict[str, str], ...]:
    """One mapping a hop: `from`, `by`, `via`, `with`, `id`, `for`, `date`, and `fromComment` for the
    first comment after `from`, which usually holds the sending address."""
    return tuple(_hop(field.unfolded[:MAX_FIELD]) for field in block.named(b"received")[:MAX_HOPS])


def _hop(value: bytes) -> dict[str, str]:
    usual = _USUAL.fullmatch(value)
    return _any_hop(value) if usual is None else _usual_hop(usual.groups()) or _any_hop(value)


def _usual_hop(groups: tuple[bytes | None, ...]) -> dict[str, str] | None:
    """The hop of a field in the usual form; None if a word has more than one meaning."""
    sender, comment, by, protocol, number, recipient, date = groups
    hop: dict[str, str] = {}
    for name, word in zip(_USUAL_NAMES, (sender, by, protocol, number, recipient), strict=True):
        if word is not None:
            if word.lower() in _CLAUSES:
                return None
            hop[name] = word[:MAX_VALUE].decode()
    if comment is not None:
        hop["fromComment"] = b" ".join(comment.split())[:MAX_VALUE].decode()
    if date and (text := b" ".join(date.split())):
        hop["date"] = text[:MAX_VALUE].decode()
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
