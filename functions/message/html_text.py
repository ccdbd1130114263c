"""Plain text from an HTML body, for mails without a text.

html.parser takes quadratic time on unclosed comments and declarations, and strangers write mail. This
parser reads every character a bounded number of times.
"""

from __future__ import annotations

import html
import re
from typing import Final

_OPEN: Final = re.compile(r"<(?=/?[a-zA-Z]|[!?])")  # any other `<` is text
_TAG: Final = re.compile(r"/?[a-zA-Z][a-zA-Z0-9]{0,15}")
# A whole tag, with `>` allowed inside quoted values. Possessive, so a failure is one pass.
_REST: Final = re.compile(r"""[^>"']*+(?:(?:"[^"]*+"|'[^']*+')[^>"']*+)*+>""")
_BREAKS: Final = frozenset(
    {"address", "article", "aside", "blockquote", "br", "caption", "center", "dd", "div", "dl", "dt"}
    | {"fieldset", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li"}
    | {"main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul"}
)
_HIDDEN: Final = frozenset({"script", "style", "title", "head", "template", "noscript"})
_BLANKS: Final = re.compile(r"[ \t\r\n\f\xa0]+")
_AROUND: Final = re.compile(r" ?\n ?")
_MANY: Final = re.compile(r"\n{3,}")
_HUGE: Final = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")


def text_of_html(source: str) -> str:
    """The readable text of `source`, block elements on lines of their own. Never raises."""
    lowered: str | None = None
    pieces: list[str] = []
    quotes_end = True
    at = 0
    while (found := _OPEN.search(source, at)) is not None:
        tag = found.start()
        pieces.append(_BLANKS.sub(" ", source[at:tag]))
        if source.startswith("<!--", tag):
            at = _after(source, "-->", tag + 4)
            continue
        name = _TAG.match(source, tag + 1)
        whole = _REST.match(source, tag + 1) if quotes_end else None
        # After one tag with an unterminated quote the parser ignores quotes: see _REST.
        quotes_end = whole is not None
        at = whole.end() if whole else _after(source, ">", tag + 1)
        word = name[0].lower() if name else ""
        if word in _HIDDEN:
            if lowered is None:
                # ASCII only: full lower-casing can change the length.
                lowered = source.translate(_LOWER)
            at = _after(lowered, f"</{word}", at)
            at = _after(source, ">", at)
        elif word.lstrip("/") in _BREAKS:
            pieces.append("\n\n" if word in ("p", "/p") else "\n")
        elif word in ("td", "th"):
            pieces.append(" ")
    pieces.append(_BLANKS.sub(" ", source[at:]))
    text = html.unescape(_HUGE.sub("\ufffd", "".join(pieces))).replace("\xa0", " ")
    return _MANY.sub("\n\n", _AROUND.sub("\n", text)).strip()


_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _after(source: str, what: str, at: int) -> int:
    """The end of the next `what`, else the end of the text."""
    found = source.find(what, at)
    return len(source) if found < 0 else found + len(what)
