"""MIME field parameters: `text/plain; charset=utf-8`, `attachment; filename*0*=…`.

RFC 2045 section 5.1 with the continuations and charsets of RFC 2231, and what senders write against them:
encoded words (RFC 2047 section 5 forbids them here), no semicolon before a parameter, a quoted type.
Never raises, and takes linear time.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from functions.message.charset import decode, decode_words

_MAX: Final = 8_192  # most bytes of a value to read; file names are shorter
_MAIN: Final = re.compile(
    rb"""(?:[\s"']++|\([^()]*+\))*+([^\s;,:"'=()/]*+(?:\s*+/\s*+[^\s;,:"'=()/]*+)?+)(?!\s{0,9}=)"""
)
_PARAMETER: Final = re.compile(
    rb"""(?:[\s;,:'/]++|\([^()]*+\))*+(?:([^\s=;,:"*]++)(?:\*([0-9]{1,3}))?(\*?)[ \t]*+=[ \t]*+"""
    rb"""(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"?|([^;"]*+))|[^\s;,:]++)""",
    re.DOTALL,
)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_VALUE_END: Final = re.compile(rb"[\s,]")
_WITH_BLANKS: Final = frozenset({b"name", b"filename"})
"""Parameters whose unquoted values run to the semicolon: senders forget the quotes of file names."""


def parse_parameters(value: bytes) -> tuple[str, dict[str, str]]:
    """The value before the parameters, in lower case, and the parameters by lower-case name."""
    value = value[:_MAX]
    plain: dict[str, bytes] = {}
    sections: dict[str, dict[int, tuple[bytes, bool]]] = {}
    main = _MAIN.match(value)
    at = main.end() if main else 0
    while at < len(value) and (found := _PARAMETER.match(value, at)) is not None:
        at = found.end()
        if found[1] is None:
            continue
        if found[4] is not None:
            text = _ESCAPED.sub(rb"\1", found[4])
        else:
            text = found[5]
            if found[1].lower() not in _WITH_BLANKS and (end := _VALUE_END.search(text)):
                text = text[: end.start()]
                at = found.start(5) + end.start()
            text = text.strip()
        name = decode(found[1]).lower()
        if found[2] is None and not found[3]:
            plain.setdefault(name, text)
        else:
            sections.setdefault(name, {}).setdefault(int(found[2] or 0), (text, bool(found[3])))
    parameters = {name: decode_words(text) for name, text in plain.items()}
    # The extended form takes precedence over the plain one, which serves old readers.
    parameters |= {name: _join(parts) for name, parts in sections.items()}
    return "".join(decode(main[1]).lower().split()) if main else "", parameters


def _join(parts: dict[int, tuple[bytes, bool]]) -> str:
    charset = b""
    joined = b""
    told = False
    for number in sorted(parts):
        text, extended = parts[number]
        if extended:
            if number == min(parts) and text.count(b"'") >= 2:
                charset, _, text = text.split(b"'", 2)
                told = True
            text = unquote_to_bytes(text)
        joined += text
    # What has a charset is decoded already: a word in it is part of the name.
    return decode(joined, decode(charset)) if told else decode_words(joined)
