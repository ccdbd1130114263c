"""The names that this server goes by, and requests that the pages of other sites send.

A page of a stranger in the browser of a developer can send requests to this server. The Host field tells
such a page whose name leads here (DNS rebinding); Origin and Sec-Fetch-Site tell any other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

_OWN: Final = frozenset({"same-origin", "none"})
_PORTS: Final = {"http": ":80", "https": ":443"}
_FOREIGN: Final = "the page of another site sent this request"


class Names:
    """`hosts` are names beside those of this computer, `origins` the sites whose pages may ask (CORS); "*"
    is all of them."""

    def __init__(self, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._hosts = frozenset(name.lower().rstrip(".") for name in hosts)
        self._origins = frozenset(one.lower().rstrip("/") for one in origins)

    def allows(self, origin: str) -> bool:
        """True if the pages of this site may ask."""
        return "*" in self._origins or _plain(origin) in self._origins

    def refusal(self, host: str, fields: Mapping[str, str], *, changes: bool) -> str:
        """Why a request is not answered, "" if it may be. `host` is its Host field, "" for none or several;
        `changes` says that it changes or watches something."""
        if not self._is_ours(host):
            cure = 'add it to "inbox": {"hosts": [...]}'
            return f"this server does not go by the name {host[:200]!r} ({cure})"
        origin, site = fields.get("origin"), fields.get("sec-fetch-site", "none")
        if origin is not None and self.allows(origin):
            return ""
        if not changes:
            # A link may lead here. Anything else could mark a mail as read for a page that sees no reply.
            return "" if site in _OWN or fields.get("sec-fetch-mode") == "navigate" else _FOREIGN
        if origin is not None and not _is_origin_of(origin, host):
            return _FOREIGN
        return "" if site in _OWN else _FOREIGN

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if not name:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return "." not in name or name in self._hosts or name.endswith(".localhost")
        return True


def _plain(origin: str) -> str:
    """An origin without the port that its scheme has anyway."""
    text = origin.lower()
    return text.removesuffix(_PORTS.get(text.partition(":")[0], "\0"))


def _is_origin_of(origin: str, host: str) -> bool:
    try:
        found = urlsplit(_plain(origin))
    except ValueError:
        return False
    return found.netloc == host.lower().removesuffix(_PORTS.get(found.scheme, "\0"))
