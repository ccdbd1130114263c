"""Mails whose HTML wants to reach out. Each asks for names of its own below `canary.example`."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Final

NAME: Final = "canary.example"

_FILE: Final = Path(__file__).parents[2] / "data" / "inbox" / "hostile.txt"
_HOST: Final = re.compile(r"@(?!\\|import|font-face|media|charset|namespace|page|keyframes|layer|supports)")
"""The place of a name of the mail's own; rules of CSS begin with the same character."""

_NULL: Final = (
    "<li\0nk rel=preconnect href=//@><\0link rel=preconnect href=//@><link/rel=preconnect/href=//@>"
    "<LINK\x0crel=preconnect\x0chref=//@>"
)


def _sections() -> dict[str, str]:
    """The HTML by its name, which begins with `images: ` where a viewer may load its images."""
    found = re.findall(r"^## (.+)\n((?:(?!## ).*\n)+)", _FILE.read_text(), re.MULTILINE)
    return dict(found) | {"null": _NULL}


def _charsets() -> dict[str, tuple[str, bytes]]:
    def link(name: str) -> str:
        host = f"{name}.{NAME}"
        return f"<link rel=preconnect href=//{host}><img src=http://{host}/ onerror=x><script src=//{host}>"

    def script(name: str) -> str:
        return f"<script href='http://{name}.{NAME}' src='http://{name}.{NAME}'/>"

    utf_7 = "+ADw-link rel+AD0-preconnect href+AD0-//utf-7.canary.example+AD4-<meta charset=utf-7>"
    xhtml = f"<html xmlns='http://www.w3.org/1999/xhtml'>{script('xhtml')}</html>"
    svg = f"<svg xmlns='http://www.w3.org/2000/svg'>{script('svg-part')}</svg>"
    return {
        "utf-7": ("text/html; charset=utf-7", utf_7.encode()),
        "utf-16": ("text/html; charset=utf-16", link("utf-16").encode("utf-16")),
        "utf-16-false": ("text/html; charset=us-ascii", link("utf-16-false").encode("utf-16")),
        "iso-2022": ("text/html; charset=iso-2022-jp", b"\x1b$B" + link("iso-2022").encode() + b"\x1b(B"),
        "sniffed": ("text/plain", f"<html>{link('sniffed')}".encode()),
        "sniffed-pdf": ("text/plain", f"%PDF-1.4\n<html>{link('sniffed-pdf')}".encode()),
        "xhtml": ("application/xhtml+xml", xhtml.encode()),
        "svg-part": ("image/svg+xml", svg.encode()),
    }


def _mail(name: str, kind: str, content: bytes) -> bytes:
    body = base64.encodebytes(content).replace(b"\n", b"\r\n")
    head = (
        f"From: Ann <ann@h.example>\r\nTo: bob@h.example\r\nSubject: {name}\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )
    return head.encode() + body


_SECTIONS: Final = _sections()
HTML: Final = {
    name: _HOST.sub(f"{name}.{NAME}", markup)
    for name, markup in ((key.removeprefix("images: "), value) for key, value in _SECTIONS.items())
}
IMAGES: Final = frozenset(key.removeprefix("images: ") for key in _SECTIONS if key.startswith("images: "))
"""Of these a viewer may load the images."""

MAILS: Final = {
    **{name: _mail(name, "text/html; charset=utf-8", text.encode()) for name, text in HTML.items()},
    **{name: _mail(name, kind, content) for name, (kind, content) in _charsets().items()},
}
"""Whole mails by their subjects."""
