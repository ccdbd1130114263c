"""MIME field parameters: `text/plain; charset=utf-8`, `attachment; filename*0*=…`.

RFC 2045 section 5.1 with the continuations and charsets of RFC 2231, and the encoded words that senders
write there although RFC 2047 section 5 forbids them. Never raises.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from functions.message.charset import decode, decode_words

_MAX: Final = 8_192  # most bytes of a value to read; file names are shorter
_PARAMETER: Final = re.compile(
    rb""";[ \t]*+([^\s=;"*]++)(?:\*([0-9]{1,3}))?(\*?)[ \t]*+=[ \t]*+"""
    rb"""(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"?|([^;"]*+))"""
)
_ESCAPED: Final = re.compile(rb"\\(.)")


def parse_parameters(value: bytes) -> tuple[str, dict[str, str]]:
    """The value before the first semicolon, in lower case, and the parameters by lower-case name."""
    value = value[:_MAX]
    main = value.partition(b";")[0].partition(b"(")[0]
    plain: dict[str, bytes] = {}
    sections: dict[str, dict[int, tuple[bytes, bool]]] = {}
    for found in _PARAMETER.finditer(value):
        name = decode(found[1]).lower()
        text = found[5].strip() if found[4] is None else _ESCAPED.sub(rb"\1", found[4])
        if found[2] is None and not found[3]:
            plain.setdefault(name, text)
        else:
            sections.setdefault(name, {}).setdefault(int(found[2] or 0), (text, bool(found[3])))
    parameters = {name: decode_words(text) for name, text in plain.items()}
    # The extended form takes precedence over the plain one, which serves old readers.
    parameters |= {name: _join(parts) for name, parts in sections.items()}
    return decode(main).strip().lower(), parameters


def _join(parts: dict[int, tuple[bytes, bool]]) -> str:
    charset = b""
    joined = b""
    for number in sorted(parts):
        text, extended = parts[number]
        if extended:
            if number == min(parts) and text.count(b"'") >= 2:
                charset, _, text = text.split(b"'", 2)
            text = unquote_to_bytes(text)
        joined += text
    return decode(joined, decode(charset))
