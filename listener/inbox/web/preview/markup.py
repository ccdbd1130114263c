"""A mail's HTML without what could reach out of it: its elements and attributes are those of a list.

A Content-Security-Policy stops programs and requests. It does not stop `<link rel=preconnect>`, a refresh of
`<meta>`, or the name that a link's `ping` asks for; so a parser (html5ever, the one of a browser, in `nh3`)
reads the HTML, and what is not on the list is left out. Images of the mail itself come in as data URLs.

A parser can take minutes for what a stranger wrote, and cannot be stopped. So all but short HTML is read by
a process with bounds: `python -m listener.inbox.web.preview.markup` takes the arguments of `cleaned` as JSON.
"""

from __future__ import annotations

import html
import json
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Final
from urllib.parse import unquote

import nh3

SECONDS: Final = 10
"""How long the parser may take."""

SHORT: Final = 32_768
"""Characters that any parser reads in a fraction of a second, whatever they are."""

_MEMORY: Final = 1_073_741_824
"""Bytes that the process may have: 20 MB of HTML take about half of it."""

_ONE: Final = threading.Lock()
"""One process at a time, whatever is asked for."""

_HEAD: Final = 65_536
"""Characters in which the start tag of the body is looked for."""

MOST_IMAGES: Final = 20_971_520
"""Characters of all data URLs in one HTML, so that a thousand references to one image stay small."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TAGS: Final = _words(
    "a abbr acronym address area article aside b bdi bdo big blockquote br button caption center cite "
    "code col colgroup data dd del details dfn dir div dl dt em fieldset figcaption figure font footer "
    "h1 h2 h3 h4 h5 h6 header hgroup hr i img input ins kbd label legend li main map mark menu meter "
    "nav ol p picture pre progress q rp rt ruby s samp section small source span strike strong style "
    "sub summary sup table tbody td tfoot th thead time tr tt u ul var wbr"
)
_WITHOUT_CONTENT: Final = _words(
    "applet audio canvas datalist embed frameset iframe math noembed noframes noscript object optgroup "
    "option script select svg template textarea title video"
)
"""Elements that go with all that is in them. Others that are not on the list leave their content behind."""

_ANYWHERE: Final = _words(
    "align alink background bgcolor border bordercolor class color dir height hidden id lang link role "
    "style text title valign vlink width"
)
_OF_CELLS: Final = _words("abbr axis char charoff colspan headers nowrap rowspan scope")
_OF_LISTS: Final = _words("compact reversed start type value")
_ATTRIBUTES: Final = {
    "*": _ANYWHERE,
    "a": frozenset({"href", "name", "hreflang"}),
    "area": frozenset({"alt", "coords", "href", "shape"}),
    "blockquote": frozenset({"type"}),
    "br": frozenset({"clear"}),
    "col": frozenset({"span"}),
    "colgroup": frozenset({"span"}),
    "data": frozenset({"value"}),
    "details": frozenset({"open"}),
    "font": frozenset({"face", "size"}),
    "hr": frozenset({"noshade", "size"}),
    "img": frozenset({"alt", "hspace", "loading", "sizes", "src", "srcset", "usemap", "vspace"}),
    "input": frozenset({"checked", "disabled", "placeholder", "type", "value"}),
    "li": _OF_LISTS,
    "map": frozenset({"name"}),
    "meter": frozenset({"high", "low", "max", "min", "optimum", "value"}),
    "ol": _OF_LISTS,
    "progress": frozenset({"max", "value"}),
    "source": frozenset({"media", "sizes", "srcset", "type"}),
    "style": frozenset({"media", "type"}),
    "table": frozenset({"cellpadding", "cellspacing", "frame", "rules", "summary"}),
    "td": _OF_CELLS,
    "th": _OF_CELLS,
    "time": frozenset({"datetime"}),
    "ul": _OF_LISTS,
}
_NEW_TAB: Final = {"target": "_blank"}
_REL: Final = "noopener noreferrer"
_SCHEMES: Final = frozenset({"cid", "data", "http", "https", "mailto", "sms", "tel"})

# A browser takes out tabs and line ends anywhere in an address, and control characters around it.
_LINK: Final = re.compile(r"(?:https?|mailto|sms|tel):|#", re.IGNORECASE)
_IMAGE: Final = re.compile(r"(?:https?|cid):|data:image/", re.IGNORECASE)
_CID: Final = re.compile(r"\s*cid:\s*(.{1,998}?)\s*", re.IGNORECASE)
_CID_IN_SET: Final = re.compile(r"(?<![^\s,])(cid:[^\s,]{1,998})", re.IGNORECASE)
_CID_IN_STYLE: Final = re.compile(r"url\(\s*[\"']?(cid:[^\s\"'()<>]{1,998})[\"']?\s*\)", re.IGNORECASE)
_STYLE: Final = re.compile(r"(<style[^>]*>)(.*?)(?=</style>)", re.DOTALL)
"""A style element as the parser writes it: no attribute holds a `<` there."""
_DOCTYPE: Final = re.compile(r"doctype html\b[^<>&]{0,300}", re.IGNORECASE)


class TooComplex(ValueError):
    """The parser takes too much time or memory for this HTML."""


def cleaned(markup: str, images: Mapping[str, str], *, new_tab: bool) -> str:
    """The HTML as a document of its own.

    `images` are data URLs by Content-ID; `new_tab` lets links open in a new tab. Raises TooComplex.
    """
    if len(markup) <= SHORT:
        return _Document(images, new_tab).of(markup)
    work = json.dumps({"markup": markup, "images": dict(images), "new_tab": new_tab}).encode()
    # The working folder may hold modules of these names.
    command = [sys.executable, "-I" if sys.flags.isolated else "-P", "-m", __name__]
    try:
        with _ONE:
            done = subprocess.run(  # noqa: S603 - this interpreter, and a module of ours
                command, input=work, capture_output=True, timeout=2 * SECONDS, check=True
            )
    except (subprocess.SubprocessError, BrokenPipeError) as error:
        raise TooComplex("its HTML takes more time or memory than a preview may have") from error
    return done.stdout.decode("utf-8", "replace")


class _Document:
    """Makes one document. An image counts as often as it is shown."""

    def __init__(self, images: Mapping[str, str], new_tab: bool) -> None:
        self._images = images
        self._left = MOST_IMAGES
        target = {"a": _NEW_TAB, "area": {**_NEW_TAB, "rel": _REL}} if new_tab else {}
        self._cleaner = nh3.Cleaner(
            tags=set(_TAGS),
            clean_content_tags=set(_WITHOUT_CONTENT),
            attributes={name: set(allowed) for name, allowed in _ATTRIBUTES.items()},
            attribute_filter=self._attribute,
            generic_attribute_prefixes={"aria-"},
            set_tag_attribute_values=target,
            link_rel=_REL,
            url_schemes=set(_SCHEMES),
        )

    def of(self, markup: str) -> str:
        """The document of a mail's HTML."""
        top = _Top()
        top.feed(markup[:_HEAD])
        body = "".join(f' {name}="{html.escape(value or "")}"' for name, value in top.attributes)
        # The parser reads a fragment, which has no body: an element of its kind stands for it.
        start = self._cleaner.clean(f"<div{body}></div>").removeprefix("<div").removesuffix("</div>")
        doctype = f"<!{top.doctype}>" if top.doctype else ""
        head = '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"></head>'
        return f"{doctype}<html>{head}<body{start}{self._styled(self._cleaner.clean(markup))}</body></html>\n"

    def _attribute(self, tag: str, name: str, value: str) -> str | None:
        if name == "href":
            return value if _LINK.match(_address(value)) else None
        if name in ("src", "background"):
            found = _CID.fullmatch(value)
            if found is not None:
                return self._image(f"cid:{found[1]}")
            return value if _IMAGE.match(_address(value)) else None
        if name == "srcset":
            return _CID_IN_SET.sub(lambda each: self._image(each[1]), value)
        if name == "style":
            return self._in_style(value)
        if tag == "input" and name == "type" and value.strip().lower() in ("file", "image"):
            return None
        return value

    def _styled(self, markup: str) -> str:
        return _STYLE.sub(lambda each: each[1] + self._in_style(each[2]), markup)

    def _in_style(self, text: str) -> str:
        return _CID_IN_STYLE.sub(lambda each: f'url("{self._image(each[1])}")', text)

    def _image(self, url: str) -> str:
        """The image in place of its id (RFC 2392); the id stays where there is none, or no room."""
        found = self._images.get(url[4:]) or self._images.get(unquote(url[4:]), "")
        if not found or len(found) > self._left:
            return url
        self._left -= len(found)
        return found


class _Top(HTMLParser):
    """Finds the document type, and the attributes of the body and of `html`."""

    def __init__(self) -> None:
        super().__init__()
        self.doctype = ""
        self.attributes: list[tuple[str, str | None]] = []
        self._found = False

    def handle_decl(self, decl: str) -> None:
        if not self._found and _DOCTYPE.fullmatch(decl):
            self.doctype = decl

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._found or tag not in ("html", "body"):
            return
        self._found = tag == "body"
        named = [one for one in attrs if re.fullmatch(r"[a-z]+", one[0])]
        kept = [one for one in named if self._found or one[0] in ("dir", "lang")]
        self.attributes = kept + self.attributes  # of two of a name, the first counts


def _address(value: str) -> str:
    """An address as a browser reads it."""
    return re.sub(r"[\t\n\r]", "", value[:8_192]).strip("".join(map(chr, range(33))))


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    work = json.loads(sys.stdin.buffer.read())
    made = _Document(work["images"], work["new_tab"]).of(work["markup"])
    sys.stdout.buffer.write(made.encode("utf-8", "replace"))


if __name__ == "__main__":
    _main()
