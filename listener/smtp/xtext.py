"""xtext (RFC 3461 section 4): printable ASCII, with `+` and two hexadecimal digits for the rest."""

from __future__ import annotations

import re
from typing import Final

_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*")
_HEX: Final = re.compile(r"\+([0-9A-Fa-f]{2})")


def decode(text: str) -> str:
    """What the xtext stands for, read as UTF-8. Raises ValueError when it is none."""
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    if "+" not in text:
        return text
    return _HEX.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1").decode("utf-8")


def encode(text: str) -> str:
    """The text as xtext."""
    return "".join(
        chr(octet) if 33 <= octet <= 126 and octet not in b"+=" else f"+{octet:02X}"
        for octet in text.encode()
    )


def printable(text: str) -> bool:
    """Whether the xtext stands for printable ASCII and blanks only (RFC 3461 section 4.4)."""
    try:
        decoded = decode(text)
    except ValueError:
        return False
    return all(" " <= one <= "~" for one in decoded)
