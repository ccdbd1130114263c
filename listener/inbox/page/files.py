"""The files of the page, in memory, under a name that changes with them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page."""

_TYPES: Final = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FIRST: Final = "index.html"


class PageFile(NamedTuple):
    """A file as a browser gets it. `tag` tells its content from any other."""

    content: bytes
    media_type: str
    tag: str


class Page:
    """All files of the page. Raises OSError if one cannot be read."""

    def __init__(self) -> None:
        found = {path.name: path.read_bytes() for path in _paths()}
        self._first = found.pop(_FIRST).decode()
        self._files = {
            name: PageFile(content, _TYPES[Path(name).suffix], _tag(content))
            for name, content in found.items()
        }
        self.version = _tag(b"".join(one.tag.encode() for one in self._files.values()))

    def file(self, name: str) -> PageFile | None:
        """The file of that name."""
        return self._files.get(name)

    def first(self, root: str) -> PageFile:
        """The HTML of the page; `root` leads from the page's address to that of the inbox: `./`, `../`."""
        text = self._first.replace("{page}", f"{root}page/{self.version}").replace("{root}", root)
        return PageFile(text.encode(), _TYPES[".html"], _tag(text.encode()))


def _paths() -> list[Path]:
    return sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in _TYPES)


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:20]
