"""The server that `send` speaks to: the one that it is told, else the one that runs here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from functions.errors import ConfigError
from listener.config.listeners import DEFAULT_PORT, LOCALHOST, Listener, is_every_address
from listener.config.load import EMBEDDED, load
from listener.config.overrides import MAX_PORT

_SUBMISSIONS: Final = 465  # RFC 8314 section 7.3
_SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]\x00-\x1f\x7f]+)(?::(\d{1,5}))?", re.ASCII)


class Place(NamedTuple):
    """Where a server listens; `secure` says that it speaks TLS from the first byte, `lmtp` that it
    speaks LMTP."""

    host: str
    port: int
    secure: bool = False
    lmtp: bool = False

    @property
    def here(self) -> bool:
        """True if it is on this machine, by its name."""
        return self.host in {"localhost", LOCALHOST, "::1"}

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place(server: str | None, port: int | None, environ: Mapping[str, str], *, secure: bool) -> Place:
    """The server that `--server` and `--port` name; what they leave open is taken from the server of the
    working folder. `secure` is for a server on another machine whose port is not given. Raises
    ConfigError."""
    host, own = (None, None) if server is None else address(server)
    if own is not None and port is not None and own != port:
        raise ConfigError(f"--port {port}", f"--server names another one: {server}", "leave one out")
    port = own if port is None else port
    found = Place("localhost" if host is None else host, port or 0, secure)
    if port is None and found.here:
        running = server_of(environ)
        return running if host is None else running._replace(host=host)
    return found if found.port else found._replace(port=_SUBMISSIONS if secure else DEFAULT_PORT)


def address(text: str) -> tuple[str, int | None]:
    """`HOST`, `HOST:PORT` or `[IPv6]:PORT`. Raises ConfigError."""
    found = _SERVER.fullmatch(text)
    if found is None or int(found[2] or 1) not in range(1, MAX_PORT + 1):
        raise ConfigError("--server", f"{text!r} is not HOST:PORT")
    return found[1].strip("[]"), int(found[2]) if found[2] else None


def server_of(environ: Mapping[str, str]) -> Place:
    """The server that the working folder's configuration describes, and the environment over it; of
    several listeners one in clear text, because every client can speak to it. A configuration with
    mistakes counts as none, because the server may run on its earlier text. Raises ConfigError for a
    variable with a mistake."""
    try:
        config = load(None, environ)
    except ConfigError:
        config = load(EMBEDDED, environ)
    listeners = [one for one in config.resolved_listeners() if one.port]
    if not listeners:
        return Place("localhost", DEFAULT_PORT)
    one = min(listeners, key=_oddity)
    local = one.bind == LOCALHOST or is_every_address(one.bind)
    return Place("localhost" if local else one.bind, one.port, one.options.secure, one.options.lmtp)


def _oddity(listener: Listener) -> tuple[bool, bool]:
    return listener.options.lmtp, listener.options.secure
