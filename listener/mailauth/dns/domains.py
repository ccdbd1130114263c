"""Domain names as DNS compares them: lower-case A-labels, no final dot."""

from __future__ import annotations

from functions.message.domains import ascii_form


def normal(domain: str) -> str | None:
    """The name as a DNS query needs it, or None if it is not a domain name.

    U-labels become A-labels (RFC 5890 section 2.3; RFC 8616 for what mail carries). Surrounding blanks
    are ignored.
    """
    return ascii_form(domain.strip(" \t"))


def normal_octets(domain: bytes) -> str | None:
    """`normal` of a name from a header field, which may be UTF-8 (RFC 8616)."""
    try:
        return normal(domain.decode())
    except UnicodeDecodeError:
        return None


def within(domain: str, parent: str) -> bool:
    """True if a normal name equals the other one or is below it."""
    return domain == parent or domain.endswith("." + parent)
