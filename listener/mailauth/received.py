"""The chain of Received fields, newest first, as far as it can be read (RFC 5321 section 4.4)."""

from __future__ import annotations

import re
from typing import Final

from listener.mailauth.fields import HeaderBlock

MAX_HOPS: Final = 50
MAX_FIELD: Final = 4_096
MAX_VALUE: Final = 255
"""Characters kept of one clause."""

_CLAUSES: Final = frozenset({"from", "by", "via", "with", "id", "for"})
_TOKEN: Final = re.compile(rb"""\(|\)|\\.|"|[^\s()"\\]+|\s+""", re.DOTALL)


def received_chain(block: HeaderBlock) -> tuple[dict[str, str], ...]:
    """One mapping a hop: `from`, `by`, `via`, `with`, `id`, `for`, `date`, and `fromComment` for the
    first comment after `from`, where the sending address usually stands."""
    return tuple(_hop(field.unfolded[:MAX_FIELD]) for field in block.named(b"received")[:MAX_HOPS])


def _hop(value: bytes) -> dict[str, str]:
    hop: dict[str, str] = {}
    clause = ""
    comment: list[bytes] = []
    text: list[bytes] = []
    depth = 0
    clauses, semicolon, date = value.rpartition(b";")
    if not semicolon:
        clauses, date = value, b""

    def settle() -> None:
        if clause and text and clause not in hop:
            hop[clause] = _clean(b" ".join(text))
        text.clear()

    for match in _TOKEN.finditer(clauses):
        token = match[0]
        if token == b"(":
            depth += 1
            if depth == 1:
                comment.clear()
                continue
        elif token == b")" and depth:
            depth -= 1
            if depth == 0:
                if clause == "from" and comment and "fromComment" not in hop:
                    hop["fromComment"] = _clean(b"".join(comment))
                continue
        if depth:
            comment.append(token)
        elif not token.isspace():
            word = token.decode("ascii", "replace").lower()
            if word in _CLAUSES and (text or not clause):
                settle()
                clause = word
            else:
                text.append(token)
    settle()
    if date.strip():
        hop["date"] = _clean(date)
    return hop


def _clean(value: bytes) -> str:
    text = " ".join(value.decode("utf-8", "replace").split())
    return "".join(character for character in text if character.isprintable())[:MAX_VALUE]
