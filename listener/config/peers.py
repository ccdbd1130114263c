"""Addresses and subnets in the configuration: the trusted peers."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(value: Any) -> Network:
    """An address or subnet as a network. Raises ValueError that names the valid forms."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    text = str(value)
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not an address or a subnet (10.0.0.0/8)") from None
    raise ValueError(f"{text!r} has bits beyond its prefix: {meant} is meant?")


def _networks(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    return tuple(map(network, value)) if isinstance(value, list | tuple) else value


TrustedPeers = Annotated[
    bool | tuple[Network, ...], BeforeValidator(_networks, json_schema_input_type=bool | str | list[str])
]
"""True for every peer, or the addresses and subnets of the trusted peers."""


def trusted(peers: bool | tuple[Network, ...]) -> Callable[[str], bool] | None:
    """Tests whether the option trusts a peer's address (canonical text); None if it trusts none."""
    if peers is False or peers == ():
        return None
    if peers is True:
        return lambda ip: True
    networks = peers

    @lru_cache(maxsize=1024)
    def among(ip: str) -> bool:
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        return any(address in network for network in networks)

    return among
