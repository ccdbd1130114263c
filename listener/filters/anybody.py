"""Tests if the values of a list match everybody: if they match clients and addresses that have nothing
in common."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from functions.message.domains import domain_key, fold_ascii
from listener.filters.pattern import PREFIX, Values, domain_glob

# RFC 5737 and RFC 3849 keep the documentation ranges; the other samples stand for the internet.
# There are two of each kind that an expression may match as a whole (IPv6, a top-level domain).
_ADDRESSES: Final = (
    "192.0.2.77",
    "198.51.100.3",
    "203.0.113.250",
    "8.8.4.4",
    "2001:db8::7:1",
    "2a0f:9400::25",
)
_NAMES: Final = (
    "mail.stranger.example",
    "host-192-0-2-77.isp.test",
    "x1.invalid",
    "mx7.some-stranger.com",
    "out.bulk9.com",
    "vps-3.rack42.net",
    "dsl.pool-17.net",
)
_MAILBOXES: Final = (
    "someone@stranger.example",
    "x.y+z@sub.isp.test",
    "a@b.invalid",
    "kim@some-stranger.com",
    "q-9@out.bulk9.com",
)

_WIDE: Final = {4: 8, 6: 20}
"""Prefix lengths, by version, below which a network is larger than any that one organization holds."""

_NOBODYS: Final = tuple(map(ipaddress.ip_network, ("fc00::/7", "fe80::/10")))  # RFC 4193, RFC 4291


def any_mailbox(values: Iterable[str]) -> bool:
    """True if the values match addresses of two strangers."""
    return _anything(values, _MAILBOXES, Values)


def _anything(
    values: Iterable[str], samples: tuple[str, ...], make: Callable[[Iterable[str]], Values]
) -> bool:
    """True if the values match two of the samples. A client can choose the matching case."""
    try:
        found = make(value.replace(PREFIX, f"{PREFIX}(?i)", 1) for value in values)
    except ValueError:
        return True  # an expression that becomes too large in this form cannot be judged
    return sum(sample in found for sample in samples) >= 2


def _any_subnet(values: Iterable[str]) -> bool:
    networks = []
    for value in values:
        try:
            networks.append(ipaddress.ip_network(value, strict=False))
        except ValueError:
            continue
    if any(map(_wide, networks)):
        return True
    return sum(any(ipaddress.ip_address(one) in each for each in networks) for one in _ADDRESSES) >= 2


def _wide(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    if network.prefixlen >= _WIDE[network.version]:
        return False
    return not any(own.version == network.version and network.subnet_of(own) for own in _NOBODYS)  # type: ignore[arg-type]


TESTS: Final[Mapping[str, Callable[[Iterable[str]], bool]]] = {
    "ips": lambda values: _anything(
        values, _ADDRESSES, partial(Values, canonical=fold_ascii, glob=fold_ascii)
    ),
    "domains": lambda values: _anything(
        values, _NAMES, partial(Values, canonical=domain_key, glob=domain_glob)
    ),
    "subnets": _any_subnet,
}
"""The client fields of a list: alternatives of each other."""
