"""Domain names as DNS compares them: lower-case A-labels, no final dot."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from functions.message.domains import MAX_NAME, ascii_form

_KEPT: Final = MAX_NAME  # no longer name is kept


def normal(domain: str) -> str | None:
    """The name as a DNS query needs it, or None if it is not a domain name.

    U-labels become A-labels (RFC 5890 section 2.3; RFC 8616 for what mail carries). Surrounding blanks
    are ignored.
    """
    return ascii_form(domain.strip(" \t"))


def normal_octets(domain: bytes) -> str | None:
    """`normal` of a name from a header field, which may be UTF-8 (RFC 8616)."""
    return _normal_octets(domain) if len(domain) <= _KEPT else _normal_octets.__wrapped__(domain)


@lru_cache(maxsize=4_096)
def _normal_octets(domain: bytes) -> str | None:
    try:
        return normal(domain.decode())
    except UnicodeDecodeError:
        return None


def within(domain: str, parent: str) -> bool:
    """True if a normal name equals the other one or is below it."""
    return domain == parent or domain.endswith("." + parent)
