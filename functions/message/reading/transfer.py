"""Content transfer encodings (RFC 2045 section 6), decoded leniently and piece by piece.

The pieces are small whatever the part's size is, so a caller can measure or hash a large attachment
without holding it. Time is linear, and nothing here raises.
"""

from __future__ import annotations

import binascii
import re
import string
from collections.abc import Iterator
from typing import Final

CHUNK: Final = 262_144

_MAX_VALUE: Final = 100  # characters of a field's value

_NO_BASE64: Final = bytes(set(range(256)) - set(f"{string.ascii_letters}{string.digits}+/=".encode()))
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_COMMENT: Final = re.compile(r"\([^()]*+(?:\)|\Z)")
_TOKEN: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_NO_ESCAPE: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*+\r?\n|\Z)")
_BLANKS_AT_END: Final = (b" \n", b"\t\n", b" \r\n", b"\t\r\n")
_BEGIN: Final = re.compile(rb"(?:\A|\n)begin(?:-base64)? [0-7]{3,4} ([^\r\n]*)\r?\n")
_UUENCODE: Final = frozenset({"x-uuencode", "uuencode", "x-uue", "uue"})


def encoding_of(value: str) -> str:
    """The name of an encoding in a field's value, without comments, quotes and what follows it."""
    value, nested = value[:_MAX_VALUE].lower(), 1
    while nested:  # comments hold comments
        value, nested = _COMMENT.subn(" ", value)
    found = _TOKEN.search(value)
    name = found[0] if found else ""
    return "x-uuencode" if name in _UUENCODE else name


def changes(encoding: str) -> bool:
    """True if the encoding stands for other bytes than those in the mail."""
    return encoding in ("base64", "quoted-printable", "x-uuencode")


def pieces(data: bytes, start: int, end: int, encoding: str) -> Iterator[bytes]:
    """The decoded bytes of `data[start:end]`. An unknown encoding counts as binary."""
    if encoding == "base64":
        return _base64(data, start, end)
    if encoding == "quoted-printable":
        return _quoted_printable(data, start, end)
    if encoding == "x-uuencode":
        return _uuencode(data, start, end)
    return (data[at : min(end, at + CHUNK)] for at in range(start, end, CHUNK))


def decode_base64(data: bytes) -> bytes:
    """Base64 as lenient readers decode it: other characters are skipped, padding may be missing, and text
    that follows padding is read on, because some senders encode each line or piece for itself."""
    return b"".join(_base64(data, 0, len(data)))


def decode_quoted_printable(data: bytes) -> bytes:
    """Quoted-printable (RFC 2045 section 6.7). Blanks at the end of a line were added on the way; `=`
    that starts no escape stays."""
    if any(end in data for end in _BLANKS_AT_END) or data[-1:] in (b" ", b"\t"):
        data = b"\n".join(_trimmed(line) for line in data.split(b"\n"))
    if b"==" in data:
        data = _NO_ESCAPE.sub(b"=3D", data)
    return binascii.a2b_qp(data)


def uuencoded_name(data: bytes, start: int, end: int) -> bytes:
    """The file name in the first line of uuencoded data, b"" if there is none."""
    found = _BEGIN.search(data, max(0, start - 1), min(end, start + 1_000))
    return found[1].strip() if found else b""


def _trimmed(line: bytes) -> bytes:
    return line[:-1].rstrip(b" \t") + b"\r" if line.endswith(b"\r") else line.rstrip(b" \t")


def _base64(data: bytes, start: int, end: int) -> Iterator[bytes]:
    left = b""
    while start < end:
        to = min(end, start + CHUNK)
        if to < end:
            to = data.rfind(b"\n", start, to) + 1 or to  # whole lines are whole quanta in most mails
        chunk = data[start:to]
        start = to
        if (b"-" in chunk or b"_" in chunk) and b"+" not in chunk and b"/" not in chunk:
            chunk = chunk.translate(_URL_SAFE)
        if not left and b"=" not in chunk:
            try:
                yield binascii.a2b_base64(chunk)
                continue
            except binascii.Error:
                pass  # a quantum goes on in the next chunk
        left += chunk.translate(None, _NO_BASE64)
        if b"=" in left:
            *ended, left = left.split(b"=")
            yield b"".join([_quanta(piece) for piece in ended if piece])
        whole = len(left) & ~3
        yield binascii.a2b_base64(left[:whole])
        left = left[whole:]
    yield _quanta(left)


def _quanta(text: bytes) -> bytes:
    """Characters of base64 that padding ends. One character at the end is less than a byte."""
    over = len(text) % 4
    return binascii.a2b_base64(text[:-1] if over == 1 else text + b"=" * (-over % 4))


def _quoted_printable(data: bytes, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        to = min(end, start + CHUNK)
        if to < end:
            line = data.rfind(b"\n", start, to)
            to = line + 1 if line >= 0 else start + (_uncut(data[start:to]) or to - start)
        yield decode_quoted_printable(data[start:to])
        start = to


def _uncut(text: bytes) -> int:
    """The length of a line's start without an escape that may go on, and without blanks that may end the
    line."""
    text = text.rstrip(b" \t")
    escape = text.rfind(b"=", max(0, len(text) - 2))
    return len(text) if escape < 0 else escape


def _uuencode(data: bytes, start: int, end: int) -> Iterator[bytes]:
    begin = _BEGIN.search(data, max(0, start - 1), end)
    if begin is None:
        yield data[start:end]
        return
    at = begin.end()
    while at < end:
        to = data.find(b"\n", at, end)
        to = end if to < 0 else to + 1
        line = data[at:to].rstrip(b"\r\n")
        at = to
        if line == b"end" or not line:
            return
        yield _uuencoded_line(line)


def _uuencoded_line(line: bytes) -> bytes:
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:  # some writers pad lines with more than they hold
        most = (((line[0] - 32) & 63) * 4 + 5) // 3
        try:
            return binascii.a2b_uu(line[:most])
        except binascii.Error:
            return b""
