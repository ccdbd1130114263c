"""Tag lists (RFC 6376 section 3.2) of signatures, keys and policies."""

from __future__ import annotations

import binascii
import re
from typing import Final

MAX_TAGS: Final = 64
"""Most tags of one list; DKIM defines fourteen."""

_TAG_NAMES: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_]*(?:;[A-Za-z][A-Za-z0-9_]*)*")
_USUAL_NAMES: Final = frozenset(b"v a b bh c d h i l q s t x z cv k n p".split())
_FWS: Final = b" \t\r\n"
_GOOD_OCTETS: Final = _FWS + bytes(range(0x21, 0x100))  # RFC 8616 adds UTF-8 to section 3.2
_DIGITS: Final = re.compile(rb"[0-9]{1,76}")


class TagError(ValueError):
    """The list does not follow the grammar. The text is short and the relay's own."""


def parse(text: bytes) -> dict[bytes, bytes]:
    """The tags, names as written, values stripped but still folded. Raises TagError."""
    specs = text.strip().split(b";", MAX_TAGS + 1)
    if len(specs) > MAX_TAGS + 1:
        raise TagError("too many tags")
    if not specs[-1]:  # the last tag may end in a semicolon
        specs.pop()
    tags: dict[bytes, bytes] = {}
    for spec in specs:
        name, equals, value = spec.partition(b"=")
        if not equals:
            raise TagError("malformed tag list")
        tags[name.strip()] = value.strip()
    if len(tags) != len(specs):
        raise TagError("malformed tag list")  # one comes twice
    names_fit = _USUAL_NAMES.issuperset(tags) or _TAG_NAMES.fullmatch(b";".join(tags))
    if tags and (not names_fit or text.translate(None, _GOOD_OCTETS)):
        raise TagError("malformed tag list")
    return tags


def unfolded(value: bytes) -> bytes:
    """A value without any white space: for base64, numbers and lists (section 2.10)."""
    return value.translate(None, _FWS)


def octets(value: bytes, tag: str) -> bytes:
    """A base64 value decoded; white space in it is ignored. Raises TagError for anything else."""
    text = value.translate(None, _FWS)
    try:
        if text:
            return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        pass
    raise TagError(f"{tag}= is not base64")


def number(value: bytes, tag: str) -> int:
    """A decimal value of at most 76 digits (section 3.5, l=). Raises TagError."""
    text = value.translate(None, _FWS)
    if not _DIGITS.fullmatch(text):
        raise TagError(f"{tag}= is not a number")
    return int(text)


def words(value: bytes) -> list[bytes]:
    """A colon-separated value's items, stripped (sections 3.5 and 3.6.1)."""
    return [item.strip(_FWS) for item in value.split(b":")]
