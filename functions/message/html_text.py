"""Plain text from an HTML body, for mails without a text.

A tokenizer, and no tree: strangers write mail, and to build the tree of HTML takes more than linear time
and memory for some of it (docs/adr/0007-reading.md). Every character is read a bounded number of times.
"""

from __future__ import annotations

import html
import re
from typing import Final

# Text, then a tag if one follows. Possessive, so a failure is one pass.
_TOKEN: Final = re.compile(
    r"""([^<]*+(?:<(?![a-zA-Z/!?])[^<]*+)*+)<(?:(/?)([a-zA-Z][^\s/>"'=]*+)([^>]*+)>)?""", re.DOTALL
)
# The rest of a tag that has a `>` in a quoted value. Quotes count only behind `=`, as browsers read them. A
# quote that hides the last `>` of all fails, and there is one of each kind at most.
_QUOTED_TAG: Final = re.compile(r"""((?:[^>"'=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+|["'])*+)>""", re.DOTALL)
_ATTRIBUTE: Final = re.compile(
    r"""([^\s"'>/=]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]*+)))?""", re.DOTALL
)
_BLOCKS: Final = (
    "address article aside blockquote caption center dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5"
    " h6 header hr li main nav ol option pre section table tr ul"
)
_OTHERS: Final = ("a", "br", "img", "p", "td", "th", "script", "style", "title", "template")
_KNOWN: Final = {name: name for name in (*_BLOCKS.split(), *_OTHERS)}
_ONE_BREAK: Final = frozenset(_BLOCKS.split())
_HIDDEN: Final = frozenset({"script", "style", "title", "template"})
_HEAD_ENDS: Final = re.compile(r"</head\b|<body\b", re.IGNORECASE)
_TITLE_ENDS: Final = re.compile(r"</title\b|</head\b|<body\b", re.IGNORECASE)
_BLANKS: Final = re.compile(r"[ \t\r\n\f\xa0]{2,}|[\t\r\n\f\xa0]")
_LINE_ENDS: Final = re.compile(r"[\t\r\n]+")
_HUGE: Final = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")
_NO_TARGET: Final = ("#", "javascript:", "vbscript:", "data:", "cid:", "about:")
_MAX_TARGET: Final = 8_192
_PIECES: Final = 32_768  # pieces of text to hold: each takes some 60 bytes more than its characters


def text_of_html(source: str) -> str:
    """The readable text of `source`: block elements on lines of their own, the lines of `pre` as they
    are, `label [target]` for links, and the alternative texts of images. Never raises."""
    text = _Text()
    absent: set[str] = set()  # hidden elements that nothing ends from here on
    last = source.rfind(">")
    at = 0
    while (found := _TOKEN.match(source, at)) is not None:
        piece, closing, name, attributes = found.groups()
        if piece:
            text.add(piece)
        at = found.end()
        if name is None:
            at = _after_no_tag(source, at - 1, last)
            continue
        if attributes.count('"') % 2 or attributes.count("'") % 2:
            whole = _QUOTED_TAG.match(source, found.start(4))
            if whole is not None:
                attributes, at = whole[1], whole.end()
        word = _KNOWN.get(name) or _KNOWN.get(name.lower())
        if word is None:
            continue
        if word in _HIDDEN and not closing:
            if not attributes.endswith("/"):
                at = _after_hidden(source, word, at, absent)
        elif word == "a":
            text.end_link()
            if not closing:
                text.start_link(_attribute(attributes, "href"))
        elif word == "img" and not closing:
            text.add_whole(_attribute(attributes, "alt"))
        else:
            text.tag(word, closing)
    if at < len(source):
        text.add(source[at:])
    return text.finish()


def _after_no_tag(source: str, at: int, last: int) -> int:
    """The place behind a `<` that starts a comment or a declaration, or a tag that does not end."""
    if source.startswith("<!--", at):
        return _after(source, "-->", at + 4 if not source.startswith("<!-->", at) else at + 2)
    return _after(source, ">", at + 1) if last > at else len(source)


def _after_hidden(source: str, word: str, at: int, absent: set[str]) -> int:
    """The end of an element that is not shown. Where nothing ends it, the head or the body does; an
    unclosed title hides no more than its own text."""
    if word == "title":
        end = _TITLE_ENDS.search(source, at) if word not in absent else None
        if end is None:
            absent.add(word)
            found = source.find("<", at)
            return len(source) if found < 0 else found
        return end.start()
    if word not in absent:
        end = re.compile(f"</{word}\\b", re.IGNORECASE).search(source, at)
        if end is not None:
            return end.start()
        absent.add(word)
    end = _HEAD_ENDS.search(source, at)
    return end.start() if end is not None else len(source)


def _after(source: str, what: str, at: int) -> int:
    """The end of the next `what`, else the end of the text."""
    found = source.find(what, at)
    return len(source) if found < 0 else found + len(what)


def _attribute(attributes: str, name: str) -> str:
    if name not in attributes and name not in attributes.lower():
        return ""
    for found in _ATTRIBUTE.finditer(attributes):
        if found[1].lower() == name:
            return _unescaped(found[2] or found[3] or found[4] or "")
    return ""


def _unescaped(text: str) -> str:
    return html.unescape(_HUGE.sub("\ufffd", text)) if "&" in text else text


class _Text:
    """Lines of text while they are put together. Line breaks and blanks wait until more text comes."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._written: list[str] = []  # behind the blocks; empty only where nothing is written
        self._breaks = 0
        self._blank = False
        self._preformatted = 0
        self._fresh = False  # right behind `<pre>`, where a line end does not count
        self._target = ""
        self._link_at = -1

    def add(self, source: str) -> None:
        """Text of the source, with its entities."""
        if self._preformatted:
            self._add_lines(_unescaped(source).replace("\r\n", "\n").replace("\xa0", " "))
        elif source.isspace():
            self._blank = True
        elif "&" in source:
            self.add_whole(_unescaped(_BLANKS.sub(" ", source)).replace("\xa0", " "))
        else:
            self.add_whole(_BLANKS.sub(" ", source) if _BLANKS.search(source) else source)

    def add_whole(self, text: str) -> None:
        """Text with blanks squeezed already."""
        bare = text.strip(" ")
        if not bare:
            self._blank = self._blank or bool(text)
            return
        if text[0] == " ":
            self._blank = True
        if self._breaks or self._blank:
            self._settle()
        self._written.append(bare)
        self._blank = text[-1] == " "
        if len(self._written) > _PIECES:
            self._join()

    def _add_lines(self, text: str) -> None:
        if self._fresh:
            text = text.removeprefix("\n")
            self._fresh = False
        bare = text.rstrip("\n")
        if bare:
            self._settle()
            self._written.append(bare)
            self._breaks = 0
            if len(self._written) > _PIECES:
                self._join()
        self._breaks += len(text) - len(bare)

    def _join(self) -> None:
        last = self._written.pop()
        self._blocks.append("".join(self._written))
        self._written = [last]
        self._link_at = -1

    def _settle(self) -> None:
        if self._breaks:
            if self._written:
                self._written.append("\n" * self._breaks)
        elif self._blank and self._written:
            self._written.append(" ")
        self._breaks = 0
        self._blank = False

    def tag(self, word: str, closing: str) -> None:
        if word in _ONE_BREAK:
            if not self._breaks:
                self._breaks = 1
            if word == "pre":
                self._preformatted = max(0, self._preformatted + (-1 if closing else 1))
                self._fresh = not closing
        elif word == "br":
            self._breaks = min(self._breaks + 1, 2)
        elif word == "p":
            self._breaks = max(self._breaks, 2)
        elif word in ("td", "th"):
            self._blank = True

    def start_link(self, target: str) -> None:
        target = _LINE_ENDS.sub("", target).strip()
        if target and len(target) <= _MAX_TARGET and not target.lower().startswith(_NO_TARGET):
            self._target = target[7:] if target.lower().startswith("mailto:") else target
            self._link_at = len(self._written)

    def end_link(self) -> None:
        """Writes the link's target behind its label, unless the label is the target."""
        if not self._target:
            return
        # A label of many pieces is longer than any target.
        label = "".join(self._written[self._link_at :]).strip() if self._link_at >= 0 else None
        if label != self._target:
            if label != "":
                self._written.append(" ")
            else:
                self._settle()
            self._written.append(f"[{self._target}]")
        self._target = ""

    def finish(self) -> str:
        self.end_link()
        return "".join((*self._blocks, *self._written)).strip()
