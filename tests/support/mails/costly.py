"""Mails of a stranger that wants to take memory: each kind costs a careless reader many times its size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SIZE: Final = 38_000_000
"""About as many bytes as the default `size` lets in."""

LINE: Final = 65_000
"""About as many bytes as the default `maxLineLength` lets in."""

_HEAD: Final = "From: a@client.example\r\nSubject: x\r\nMIME-Version: 1.0\r\n"


def _single(content_type: str, body: bytes, encoding: str = "8bit") -> bytes:
    head = f"{_HEAD}Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + body


def _filled(line: bytes, size: int) -> bytes:
    return line * (size // len(line))


def html(size: int = SIZE) -> bytes:
    """Markup in which every line is an element, with a link and an entity."""
    line = b'<p><a href="http://a.example/">x</a>&amp;<b>y</b><br>\r\n'
    return _single("text/html; charset=utf-8", _filled(line, size))


def entities(size: int = SIZE) -> bytes:
    """HTML of nothing but `&amp;`."""
    return _single("text/html", _filled(b"&amp;" * 180 + b"\r\n", size))


def padded_base64(size: int = SIZE) -> bytes:
    """Base64 in which each quantum is padded, so it decodes piece by piece."""
    return _single("text/plain", _filled(b"YQ==" * 18 + b"\r\n", size), "base64")


def quoted_printable(size: int = SIZE) -> bytes:
    """Quoted-printable in lines as long as the relay lets in, with escapes that are none."""
    line = b"=F0=9F=98=80==" * (LINE // 14) + b"\r\n"
    return _single("text/plain; charset=utf-8", _filled(line, size), "quoted-printable")


def flowed(size: int = SIZE) -> bytes:
    """Quoted lines of a text that flows on and on."""
    return _single("text/plain; charset=utf-8; format=flowed; delsp=yes", _filled(b"> a \r\n", size))


def emoji(size: int = SIZE) -> bytes:
    """A text of ASCII with one character that makes Python take four bytes for each."""
    return _single("text/plain; charset=utf-8", "\U0001f600".encode() + _filled(b"abc def\r\n", size))


def emoji_in_html(size: int = SIZE) -> bytes:
    """HTML with such a character, in which every five bytes are a paragraph."""
    return _single(
        "text/html; charset=utf-8", "\U0001f600".encode() + _filled(b"<p>ab" * 180 + b"\r\n", size)
    )


def many_parts(count: int = 20_000) -> bytes:
    """A multipart of small texts with names."""
    part = "--b\r\nContent-Type: text/plain; name=n.txt\r\n\r\nx\r\n"
    return f"{_HEAD}Content-Type: multipart/mixed; boundary=b\r\n\r\n{part * count}--b--\r\n".encode()


KINDS: Final[tuple[Callable[[], bytes], ...]] = (
    html,
    entities,
    padded_base64,
    quoted_printable,
    flowed,
    emoji,
    emoji_in_html,
    many_parts,
)


def mixed() -> list[bytes]:
    """One mail of each kind: eight."""
    return [kind() for kind in KINDS]


def alike(kind: Callable[[int], bytes], size: int = SIZE) -> list[bytes]:
    """Eight times the same mail."""
    return [kind(size)] * len(KINDS)
