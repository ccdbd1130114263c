"""Comparison of domain names: one form for every spelling of a name.

The form is the name's A-labels in lower case (RFC 5890 section 2.3.2.1), as IDNA 2008 makes them after
the mapping of UTS 46 without its transitional part: `MÜNCHEN.example`, `münchen。example` and
`xn--mnchen-3ya.example` are one name, `faß.example` and `fass.example` are two.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

MAX_NAME: Final = 253
"""Bytes of a domain name in text form (RFC 1035 section 3.1: 255 on the wire)."""

_MAX_TEXT: Final = 2 * MAX_NAME

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LOWER: Final = {ord("A") + at: ord("a") + at for at in range(26)}


def fold_ascii(text: str) -> str:
    """The text with A to Z in lower case and every other character unchanged, because `str.lower` makes
    an ASCII letter of U+212A (KELVIN SIGN)."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def ascii_form(domain: str) -> str | None:
    """The name as a DNS query needs it, without a final dot; None if it is not a domain name.

    ASCII labels with underscores pass, because the names of keys and policies contain them. Address
    literals are not domain names. Never raises.
    """
    return _ascii_form(domain) if len(domain) <= _MAX_TEXT else None


def domain_key(domain: str) -> str:
    """The key of a domain, equal for all its spellings and for no other domain: its ASCII form. A text
    that is not a domain name equals only itself, apart from the case of A to Z."""
    return ascii_form(domain) or fold_ascii(domain)


@lru_cache(maxsize=4_096)  # the checks repeat a mail's few names
def _ascii_form(domain: str) -> str | None:
    name = domain.lower() if domain.isascii() else _a_labels(domain)
    name = name.removesuffix(".")
    return name if len(name) <= MAX_NAME and _NAME.fullmatch(name) else None


def _a_labels(domain: str) -> str:
    """The name after UTS 46's mapping, its U-labels as A-labels; "" if IDNA 2008 has none for a
    label."""
    import idna  # its tables load slowly, and few names need them

    try:
        labels = idna.uts46_remap(domain, std3_rules=False).split(".")
        return ".".join(label if label.isascii() else idna.alabel(label).decode() for label in labels)
    except UnicodeError:  # idna.IDNAError is one
        return ""
