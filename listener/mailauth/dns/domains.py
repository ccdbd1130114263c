"""Domain names as DNS compares them: lower-case A-labels, no final dot."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import idna

MAX_NAME: Final = 253
"""Octets of a domain name in text form (RFC 1035 section 3.1: 255 on the wire)."""

_MAX_TEXT: Final = 2 * MAX_NAME

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def normal(domain: str) -> str | None:
    """The name as DNS is asked for it, or None for what is not a domain name.

    U-labels become A-labels (RFC 5890 section 2.3; RFC 8616 for what mail carries). Underscores
    pass: keys and policies live below them. Address literals are not domain names.
    """
    return _normal(domain) if len(domain) <= _MAX_TEXT else None


@lru_cache(maxsize=4_096)  # a mail's few names are asked about again and again
def _normal(domain: str) -> str | None:
    name = domain.strip(" \t").lower().removesuffix(".")
    if not name or len(name) > MAX_NAME:
        return None
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            return None
        if len(name) > MAX_NAME:
            return None
    return name if _NAME.fullmatch(name) else None


def normal_octets(domain: bytes) -> str | None:
    """`normal` of a name as it stood in a header field, which may be UTF-8 (RFC 8616)."""
    try:
        return normal(domain.decode())
    except UnicodeDecodeError:
        return None


def within(domain: str, parent: str) -> bool:
    """Whether a normal name is the other one or lies below it."""
    return domain == parent or domain.endswith("." + parent)
