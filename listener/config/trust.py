"""Which peers are believed when they speak for others (useProxy, useXClient, useXForward)."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from listener.config.peers import Network


def trusted(peers: bool | tuple[Network, ...]) -> Callable[[str], bool] | None:
    """Whether a peer's address (canonical text) is among those of the option; None when nobody is."""
    if peers is False or peers == ():
        return None
    if peers is True:
        return _anybody
    networks = peers

    @lru_cache(maxsize=1024)
    def among(ip: str) -> bool:
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        return any(address in network for network in networks)

    return among


def _anybody(ip: str) -> bool:
    return True
