"""Addresses and subnets in the configuration: who is believed."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import BeforeValidator

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(value: Any) -> Network:
    """An address or subnet as a network. Raises ValueError that says what is meant."""
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
        raise ValueError(f"{text!r} is neither an address nor a subnet (10.0.0.0/8)") from None
    raise ValueError(f"{text!r} has bits beyond its prefix: {meant} is meant?")


def _networks(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    return tuple(map(network, value)) if isinstance(value, list | tuple) else value


TrustedPeers = Annotated[
    bool | tuple[Network, ...], BeforeValidator(_networks, json_schema_input_type=bool | str | list[str])
]
"""True for everybody, or the addresses and subnets of those who are believed."""
