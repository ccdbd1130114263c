"""Decoders of `functions.message.charset`, which imports this module for the first value that needs it.

Nothing here raises or takes more than linear time.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Final

from functions.message.reading.eastern import (
    decode_ascii_8bit,
    decode_big5,
    decode_cp949,
    decode_euc_jp,
    decode_gb18030,
    decode_iso_2022_jp,
)
from functions.message.reading.labels import codec_of
from functions.message.reading.transfer import decode_base64

_DECODERS: Final[dict[str, Callable[[bytes], str]]] = {
    "ascii": decode_ascii_8bit,
    "big5hkscs": decode_big5,
    "cp949": decode_cp949,
    "euc_jp": decode_euc_jp,
    "gb18030": decode_gb18030,
    "iso2022_jp": decode_iso_2022_jp,
}
# RFC 2047 section 2. The charset may carry a language (RFC 2231 section 5). `[^?]` and no blank
# in front keep the search linear whatever the value is.
_WORD: Final = re.compile(rb"=\?([!->@-~]{1,64})\?([bBqQ])\?([^?\r\n]*)\?=")
_BLANK: Final = re.compile(rb"[ \t\r\n]*")
_ENDS: Final = re.compile(rb"[^A-Za-z0-9+/=_-]+")


def decode(data: bytes, charset: str = "") -> str:
    """`charset.decode`."""
    codec = codec_of(charset) if charset else "ascii"
    if codec is None:
        return decode_ascii_8bit(data)
    decoder = _DECODERS.get(codec)
    if decoder is not None:
        return decoder(data)
    if codec == "utf_16_le" and data[:2] in (b"\xfe\xff", b"\xff\xfe"):
        codec = "utf_16"  # which follows the mark
    return data.decode(codec, "replace")


def decode_words(value: bytes) -> str:
    """`charset.decode_words`. Neighbouring words of one charset are joined before they are decoded,
    because senders cut them within a character, and within the four characters of base64 that stand for
    three bytes."""
    text: list[str] = []
    words: list[tuple[bool, bytes]] = []
    charset, at = "", 0
    for found in _WORD.finditer(value):
        between = value[at : found.start()]
        at = found.end()
        word_charset = found[1].partition(b"*")[0].decode().lower()
        adjacent = words and _BLANK.fullmatch(between)
        if not adjacent or word_charset != charset:
            text.append(_joined(words, charset))
            words = []
        if not adjacent:
            text.append(decode(between))
        charset = word_charset
        words.append((found[2] in b"bB", found[3]))
    text += (_joined(words, charset), decode(value[at:]))
    return "".join(text)


def _joined(words: list[tuple[bool, bytes]], charset: str) -> str:
    """The text of neighbouring words of one charset; each is base64 or not, and its encoded bytes."""
    if not words:
        return ""
    apart = b"".join(_word(base64, encoded) for base64, encoded in words)
    if len(words) == 1 or not any(base64 and _is_cut(encoded) for base64, encoded in words[:-1]):
        return decode(apart, charset)
    pieces: list[bytes] = []
    run: list[bytes] = []
    for base64, encoded in words:
        if base64:
            run.append(encoded)
            continue
        pieces += (decode_base64(b"".join(run)), _word(base64, encoded))
        run = []
    text = decode(b"".join((*pieces, decode_base64(b"".join(run)))), charset)
    # Words may also lack their padding; then each of them is whole.
    other = decode(apart, charset) if "\ufffd" in text or not text.isprintable() else text
    return other if other.isprintable() and "\ufffd" not in other else text


def _word(base64: bool, encoded: bytes) -> bytes:
    return decode_base64(encoded) if base64 else binascii.a2b_qp(encoded, header=True)


def _is_cut(encoded: bytes) -> bool:
    """True if base64 ends within a group of four characters."""
    clean = _ENDS.sub(b"", encoded)
    return len(clean) % 4 != 0 and not clean.endswith(b"=")
