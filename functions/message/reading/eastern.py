"""Charsets of East Asia with the characters of vendors, which Python's codecs of the same names lack.

Japanese mail uses NEC's row 13 (①, ㈱), IBM's extensions and half-width katakana under the names of
ISO-2022-JP and EUC-JP. The index of the WHATWG Encoding standard has them, and so has Python's codec
cp932: both charsets hold the same pairs of bytes as it, at other places. Every function takes linear
time and never raises; what has no meaning becomes U+FFFD.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

_ESCAPE: Final = re.compile(rb"\x1b(?:\(([BJHI])|\$([@AB])|\$\(([@ABCD])|[.N&%-][\x20-\x7e])|[\x0e\x0f]")
_ISO_2022_JP: Final = re.compile(rb"\x1b(?:\$[@B]|\$\([@ABD]|\([IJ])")
_PAIRED: Final = {b"A": "gb2312", b"C": "euc_kr"}  # the other sets of ISO-2022-JP-2 (RFC 1554)
_ROMAN: Final = str.maketrans("\\~", "\u00a5\u203e")  # JIS X 0201
_RUN: Final = re.compile(
    rb"(?:[\xa1-\xfe]{2})+|(?:\x8e[\xa1-\xdf])+|(?:\x8f[\xa1-\xfe]{2})+|[\x00-\x7f]+|.", re.DOTALL
)

_ROWS: Final = bytes(  # the first byte of a pair in Shift_JIS, by its row in JIS X 0208 plus 0xA0
    (0x81 + (row - 0xA1) // 2 if row < 0xDF else 0xC1 + (row - 0xA1) // 2) if 0xA1 <= row <= 0xFC else 0xFF
    for row in range(256)
)


def has_jis_escapes(data: bytes) -> bool:
    """True if text without a known charset switches sets as ISO-2022-JP does (RFC 1468)."""
    return _ISO_2022_JP.search(data) is not None


def decode_iso_2022_jp(data: bytes) -> str:
    """ISO-2022-JP in all its variants: with katakana, JIS X 0212 and the sets of ISO-2022-JP-2. Each line
    begins in ASCII (RFC 1468)."""
    found: list[str] = []
    at, single, double = 0, b"B", b""
    for escape in _ESCAPE.finditer(data):
        piece = data[at : escape.start()]
        found.append(_in_set(piece, single, double))
        if b"\n" in piece:
            single, double = b"B", b""
        at = escape.end()
        if escape[1] is not None:
            single, double = escape[1], b""
        elif escape[2] is not None or escape[3] is not None:
            double = escape[2] or escape[3]
        elif escape[0] == b"\x0e":
            single = b"I"
        elif escape[0] == b"\x0f":
            single = b"B"
    found.append(_in_set(data[at:], single, double))
    return "".join(found)


def _in_set(data: bytes, single: bytes, double: bytes) -> str:
    if not data:
        return ""
    if (double or single == b"I") and b"\n" in data:
        line, _, rest = data.partition(b"\n")
        return _in_set(line, single, double) + "\n" + _in_set(rest, b"B", b"")
    if double:
        return "".join(
            _pairs(run, double) if run[:1] > b"\x20" else run.decode("ascii")
            for run in re.findall(rb"[\x21-\xff]+|[\x00-\x20]+", data)
        )
    if single == b"I":
        return bytes(octet | 0x80 if 0x21 <= octet <= 0x5F else octet for octet in data).decode(
            "cp932", "replace"
        )
    if data.isascii():
        text = data.decode("ascii")
        return text.translate(_ROMAN) if single == b"J" else text
    return data.decode("cp932", "replace")  # Shift_JIS between the escapes


def _pairs(run: bytes, double: bytes) -> str:
    high = bytes(octet | 0x80 for octet in run)
    if double == b"D":
        return "".join(
            (b"\x8f" + high[at : at + 2]).decode("euc_jp", "replace") for at in range(0, len(high), 2)
        )
    if double in _PAIRED:
        return high.decode(_PAIRED[double], "replace")
    return _jis_0208(high)


def decode_euc_jp(data: bytes) -> str:
    """EUC-JP as Windows reads it (eucJP-ms)."""
    if data.isascii():
        return data.decode("ascii")
    found: list[str] = []
    for run in _RUN.findall(data):
        first = run[0]
        if first < 0x80:
            found.append(run.decode("ascii"))
        elif first >= 0xA1 and len(run) > 1:
            found.append(_jis_0208(run))
        elif first == 0x8E:
            found.append(run[1::2].decode("cp932", "replace"))
        else:
            found.append(run.decode("euc_jp", "replace") if first == 0x8F else "\ufffd")
    return "".join(found)


def _jis_0208(pairs: bytes) -> str:
    """Pairs of JIS X 0208 with the high bits set, moved to their places in Shift_JIS."""
    rows, cells = pairs[::2], pairs[1::2]
    moved = bytearray(2 * len(cells))
    moved[::2] = rows[: len(cells)].translate(_ROWS)
    moved[1::2] = bytes(_cell(row, cell) for row, cell in zip(rows, cells, strict=False))
    text = bytes(moved).decode("cp932", "replace")
    return text + "\ufffd" if len(pairs) % 2 else text


def _cell(row: int, cell: int) -> int:
    """The second byte of a pair in Shift_JIS: two rows of JIS share one first byte."""
    if not row & 1:
        return cell - 2
    return cell - 0x61 if cell < 0xE0 else cell - 0x60


def decode_big5(data: bytes) -> str:
    """Big5 with Hong Kong's supplement, which the standard includes, and the characters of ETEN and
    Microsoft that the codec of the supplement lacks."""
    return _with(data, "big5hkscs", "cp950")


def decode_gb18030(data: bytes) -> str:
    """GB 18030, GBK and GB 2312; a lone 0x80 is Windows' euro sign."""
    try:
        return data.decode("gb18030")
    except UnicodeDecodeError:
        return _with(data, "gb18030", "cp936")


def decode_cp949(data: bytes) -> str:
    """Windows' EUC-KR, which holds all 11,172 syllables."""
    return data.decode("cp949", "replace")


def decode_ascii_8bit(data: bytes) -> str:
    """US-ASCII and what senders write under its name, or without one: ISO-2022-JP by its escapes, UTF-8 if
    valid, else Windows-1252."""
    if b"\x1b" in data and has_jis_escapes(data):
        return decode_iso_2022_jp(data)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _with(data: bytes, codec: str, other: str) -> str:
    """By `codec`, and by `other` where that has no character. Text that is mostly wrong stays so."""
    text = data.decode(codec, "replace")
    wrong = text.count("\ufffd")
    if not wrong or wrong > len(text) // 8 + 8:
        return text
    return data.decode(codec, f"{__name__}.{other}")


def _register(other: str) -> None:
    def decode_pair(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        pair = error.object[error.start : error.start + 2]
        if pair[:1] == b"\x80":
            return "€", error.start + 1
        try:
            return pair.decode(other), error.start + len(pair)
        except UnicodeDecodeError:
            return "\ufffd", max(error.end, error.start + 1)

    codecs.register_error(f"{__name__}.{other}", decode_pair)


_register("cp950")
_register("cp936")
