"""What proxies say about a request; only those that the configuration trusts are believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import NamedTuple

from listener.config.peers import Network, trusted


class Visit(NamedTuple):
    """A request: the address of its client, the Host field, and whether it came over TLS."""

    client: str
    host: str
    secure: bool


class Proxies:
    """`peers` are the addresses of trusted proxies, True for all."""

    def __init__(self, peers: bool | tuple[Network, ...]) -> None:
        self._trusts: Callable[[str], bool] = trusted(peers) or (lambda ip: False)

    def visit(self, peer: str, host: str, fields: Mapping[str, str], *, secure: bool) -> Visit:
        """The request that a peer sent, for itself or as a proxy for a client. The client is the last
        address of X-Forwarded-For that is not a trusted proxy: what stands before it, the client wrote."""
        if not self._trusts(peer):
            return Visit(peer, host, secure)
        client = peer
        for one in reversed(fields.get("x-forwarded-for", "").split(",")):
            if not (address := _address(one)):
                break
            client = address
            if not self._trusts(address):
                break
        told = fields.get("x-forwarded-host", "").rpartition(",")[2].strip()
        scheme = fields.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        return Visit(client, told or host, scheme == "https" if scheme else secure)


def _address(text: str) -> str:
    """An address without its port, "" for other text."""
    found = text.strip()
    if found.startswith("["):
        found = found[1:].partition("]")[0]
    elif found.count(":") == 1:
        found = found.partition(":")[0]
    try:
        return str(ipaddress.ip_address(found))
    except ValueError:
        return ""
