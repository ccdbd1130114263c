"""Decodes bytes of mails with wrong charsets, and RFC 2047 encoded words.

Nothing here raises or takes more than linear time. The module looks up only known names of charsets,
because Python's codec registry keeps every unknown name for ever, and some of its codecs (punycode,
idna) take quadratic time.
"""

from __future__ import annotations

import binascii
import re
from encodings.aliases import aliases
from typing import Final

# The meaning of these names in browsers and mail clients (WHATWG Encoding), because real mail relies
# on it.
_READ_AS: Final = {
    "ascii": "utf_8",
    "us_ascii": "utf_8",
    "utf8": "utf_8",
    "utf_8": "utf_8",
    "iso_8859_1": "cp1252",
    "latin1": "cp1252",
    "latin_1": "cp1252",
    "iso_8859_9": "cp1254",
    "iso_8859_8_i": "iso8859_8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601_1987": "cp949",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "windows_874": "cp874",
    "koi8_u": "koi8_u",
}
_NO_CHARSET: Final = frozenset(
    {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}
    | {"idna", "punycode", "mbcs", "tactis", "undefined", "unicode_escape", "raw_unicode_escape"}
)
_CODECS: Final = {
    name: codec
    for name, codec in {**aliases, **{codec: codec for codec in aliases.values()}, **_READ_AS}.items()
    if codec not in _NO_CHARSET
}

# RFC 2047 section 2. The charset may carry a language (RFC 2231 section 5). `[^?]` and no blank
# in front keep the search linear whatever the value is.
_WORD: Final = re.compile(rb"=\?([!->@-~]{1,64})\?([bBqQ])\?([^?\r\n]*)\?=")
_BLANK: Final = re.compile(rb"[ \t\r\n]*")
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]+")


def codec_of(charset: str) -> str | None:
    """The codec of a charset, None for an unknown one."""
    name = charset.strip().strip("\"'").lower()
    return _CODECS.get(re.sub(r"[^a-z0-9]", "_", name)) if len(name) <= 64 else None


def decode(data: bytes, charset: str = "") -> str:
    """Text from bytes: by the charset if known, else as UTF-8 if valid, else as Windows-1252. Never
    raises; undecodable bytes become U+FFFD."""
    codec = codec_of(charset) if charset else None
    if codec is not None and codec != "utf_8":
        return data.decode(codec, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8" if codec else "cp1252", "replace")


def decode_words(value: bytes) -> str:
    """An unstructured header value as text, with decoded words (RFC 2047 section 6.2).

    Neighbouring words of one charset are joined first, because senders cut them within a character.
    """
    if b"=?" not in value:
        return decode(value)
    text: list[str] = []
    pending, charset, at = bytearray(), "", 0
    for found in _WORD.finditer(value):
        between = value[at : found.start()]
        at = found.end()
        word_charset = found[1].partition(b"*")[0].decode().lower()
        adjacent = pending and _BLANK.fullmatch(between)
        if not adjacent or word_charset != charset:
            text.append(decode(bytes(pending), charset))
            pending = bytearray()
        if not adjacent:
            text.append(decode(between))
        charset = word_charset
        base64 = found[2] in b"bB"
        pending += decode_base64(found[3]) if base64 else binascii.a2b_qp(found[3], header=True)
    text += (decode(bytes(pending), charset), decode(value[at:]))
    return "".join(text)


def decode_base64(data: bytes) -> bytes:
    """Base64 as lenient readers decode it: skips other characters and fixes the padding."""
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        clean = _NOT_BASE64.sub(b"", data)
        whole = len(clean) - (len(clean) % 4 == 1)
        return binascii.a2b_base64(clean[:whole] + b"=" * (-whole % 4))
