"""A mail's text and HTML from its parts.

In a multipart/alternative the parts say the same, so plain text is text and HTML is HTML. Outside of
them each part adds to both: a footer that a mailing list puts below an HTML mail is in its text and in
its HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Final

from functions.message.charset import decode
from functions.message.headers import BOM
from functions.message.html_text import text_of_html
from functions.message.reading.flowed import unwrapped
from functions.message.reading.labels import codec_of
from functions.message.reading.structure import Leaf

_META: Final = re.compile(
    rb"""<meta\s[^>]{0,500}?charset\s{0,9}=\s{0,9}["']?\s{0,9}([\w.:-]{1,40})"""
    rb"""|<\?xml\s[^>]{0,200}?encoding\s{0,9}=\s{0,9}["']([\w.:-]{1,40})""",
    re.IGNORECASE,
)
_COMMENT: Final = re.compile(rb"<!--.*?-->", re.DOTALL)
_META_WITHIN: Final = 4_096  # bytes of HTML whose meta elements count; browsers read 1,024 and more


class MailTexts:
    """The texts of a mail, decoded at their first use. `most` bounds the bytes of all plain parts, and of
    all HTML parts."""

    def __init__(self, leaves: Iterable[Leaf], most: int) -> None:
        self._units: list[list[Leaf]] = []
        self._most = most
        groups: dict[int, list[Leaf]] = {}
        for leaf in leaves:
            if not leaf.is_body:
                continue
            if leaf.group in groups:
                groups[leaf.group].append(leaf)
                continue
            self._units.append([leaf])
            if leaf.group:
                groups[leaf.group] = self._units[-1]

    @cached_property
    def text(self) -> str | None:
        """The plain texts with LF line ends, and text made from HTML where there is no plain text; None
        if there is neither."""
        found = [
            plain if plain is not None else text_of_html(markup or "")
            for plain, markup in zip(self._plain, self._html, strict=True)
        ]
        return "\n".join(found) if found else None

    @cached_property
    def html(self) -> str | None:
        """The HTML with LF line ends, and plain text as HTML where there is none; None if the mail has no
        HTML."""
        if all(markup is None for markup in self._html):
            return None
        found = (
            markup if markup is not None else _markup(plain or "")
            for plain, markup in zip(self._plain, self._html, strict=True)
        )
        return "\n".join(one for one in found if one)

    @cached_property
    def _plain(self) -> list[str | None]:
        return self._decoded("text/plain")

    @cached_property
    def _html(self) -> list[str | None]:
        return self._decoded("text/html")

    def _decoded(self, content_type: str) -> list[str | None]:
        """One text for each unit, None for a unit without parts of this type."""
        left = self._most
        units: list[str | None] = []
        for unit in self._units:
            texts: list[str] = []
            for leaf in unit:
                if leaf.content_type == content_type:
                    data = leaf.payload(left)
                    left -= len(data)
                    texts.append(_decoded(leaf, data, cut=not left))
            units.append("\n".join(texts) if texts else None)
        return units


def _decoded(leaf: Leaf, data: bytes, *, cut: bool) -> str:
    """The text of a part with LF line ends."""
    text = decode(data, _charset(leaf, data)).removeprefix("\ufeff").replace("\r\n", "\n")
    if cut:
        text = text.removesuffix("\ufffd")  # a character that the cut went through
    if leaf.content_type == "text/plain" and leaf.parameters.get("format", "").lower() == "flowed":
        return unwrapped(text, delsp=leaf.parameters.get("delsp", "").lower() == "yes")
    return text


def _charset(leaf: Leaf, data: bytes) -> str:
    """The charset that the part names, else the one that its bytes name."""
    if data.startswith(BOM):
        return "utf-8"
    charset = leaf.parameters.get("charset", "")
    if charset and codec_of(charset) is not None:
        return charset
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if leaf.content_type == "text/html":
        meta = _META.search(_COMMENT.sub(b"", data[:_META_WITHIN]))
        if meta is not None:
            named = (meta[1] or meta[2]).decode("ascii", "replace")
            return "utf-8" if (codec_of(named) or "").startswith("utf_16") else named  # its bytes were read
    return charset


def _markup(plain: str) -> str:
    text = html.escape(plain.strip("\n"), quote=False)
    return "<p>" + text.replace("\n", "<br>\n") + "</p>" if text else ""
