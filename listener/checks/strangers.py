"""Whether an unknown client gets through a flow's filters, and what it reaches then."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from functions.message.addresses import address_key
from functions.message.domains import domain_key
from functions.processors.base import OutputOptions
from functions.processors.registry import type_of as output_type
from listener.api.filter import FilterOptions
from listener.checks.finding import Finding, Setting, error, warning
from listener.config.listeners import Listener
from listener.config.relay import FlowConfig, RelayConfig
from listener.filters.registry import type_of

_REGEXP: Final = "regexp:"

# RFC 5737 and RFC 3849 keep the documentation ranges; the others stand for anybody. Of each kind that
# an expression may mean as a whole (IPv6, a top-level domain) there are two.
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
"""Prefix lengths below which a network holds more than any one party was ever given: by version."""

_NOBODYS: Final = tuple(map(ipaddress.ip_network, ("fc00::/7", "fe80::/10")))  # RFC 4193, RFC 4291


def checks_credentials(options: FilterOptions) -> bool:
    """Whether this filter knows right credentials from wrong ones."""
    return type_of(options) in {"static-auth", "http-auth"}


def takes_any_user(options: FilterOptions) -> bool:
    """Whether AUTH succeeds for this filter's sake whatever the credentials are."""
    return bool(getattr(options, "allow_any_user", False))


def serves(flow: FlowConfig, listener: Listener) -> bool:
    """Whether the flow takes mail of that listener."""
    return flow.listeners is None or listener.name in flow.listeners


def knows_users(config: RelayConfig) -> bool:
    """Whether AUTH tells right credentials from wrong ones: some filter checks them, and none takes
    whatever it is given."""
    filters = [one for flow in config.flows.values() for one in flow.filters]
    return any(map(checks_credentials, filters)) and not any(map(takes_any_user, filters))


def stranger_passes(config: RelayConfig, name: str, listener: Listener) -> bool:
    """Whether a client without valid credentials, from anywhere, can send a mail through the
    listener that the flow takes (what an HTTP endpoint decides counts as known)."""
    flow = config.flows[name]
    if not serves(flow, listener) or not flow.filters:
        return False
    if listener.options.must_authenticate and knows_users(config):
        return False
    passes = [_lets_pass(options, flow.filters_operator) for options in flow.filters]
    return all(passes) if flow.filters_operator == "AND" else any(passes)


def recipients_limited(flow: FlowConfig) -> bool:
    """Whether whitelists limit the recipients of everything that the flow takes."""
    limits = [type_of(one) == "whitelist" and _limits_recipients(one) for one in flow.filters]
    return any(limits) if flow.filters_operator == "AND" else bool(limits) and all(limits)


def _limits_recipients(options: FilterOptions) -> bool:
    to = _values(options, "to")
    return bool(to) and not _anything(to, _MAILBOXES)


def _lets_pass(options: FilterOptions, operator: str) -> bool:
    kind = type_of(options)
    if kind != "whitelist":
        # mail-auth says who somebody is, not whether he is known; third parties' filters are theirs.
        return kind == "mail-auth"
    client = [test(_values(options, key)) for key, test in _CLIENT_TESTS.items() if _values(options, key)]
    # A reverse-path is whatever the client says, and a recipient says nothing about who sends.
    said = bool(_values(options, "from") or _values(options, "to"))
    if operator == "OR":
        return any(client) or said
    return any(client) if client else said


def _values(options: FilterOptions, key: str) -> tuple[str, ...]:
    found: Any = getattr(options, "from_" if key == "from" else key, None) or ()
    return tuple(map(str, found))


def _anything(values: Iterable[str], samples: tuple[str, ...]) -> bool:
    """Whether the values match two of the samples, which have nothing in common."""
    hits = 0
    for sample in samples:
        hits += any(_matches(value, sample) for value in values)
    return hits >= 2


def _matches(value: str, sample: str) -> bool:
    if not value.startswith(_REGEXP):
        return (address_key(value) if "@" in value else domain_key(value)) == sample
    try:
        return re.fullmatch(value.removeprefix(_REGEXP), sample, re.IGNORECASE) is not None
    except re.error:
        return True  # it cannot be judged here


def _any_address(values: Iterable[str]) -> bool:
    return _anything(values, _ADDRESSES)


def _any_name(values: Iterable[str]) -> bool:
    return _anything(values, _NAMES)


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


_CLIENT_TESTS: Final[dict[str, Callable[[Iterable[str]], bool]]] = {
    "ips": _any_address,
    "domains": _any_name,
    "subnets": _any_subnet,
}
"""What a whitelist can ask of a client: alternatives of each other."""


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """Outputs that send mail on, reached by clients that nobody knows."""
    for name, flow in config.flows.items():
        reached = [
            one.name
            for one in config.resolved_listeners()
            if (setting.public or one.exposed) and stranger_passes(config, name, one)
        ]
        if not reached:
            continue
        for index, output in enumerate(flow.outputs):
            if (sends := _sends(output)) is None:
                continue
            whom = "the recipients it lists" if recipients_limited(flow) else "anybody: an open relay"
            text = f"a stranger on {', '.join(reached)} can send through {sends} to {whom}"
            cure = "add static-auth or http-auth, limit ips or subnets, or require authentication"
            make = error if setting.public else warning
            yield make(f"flows.{name}.outputs[{index}]", f"{text} ({cure})")


def _sends(output: OutputOptions) -> str | None:
    """What sends the mail on; None for outputs that do not."""
    kind = output_type(output)
    if kind in {"mailer", "nodemailer"}:
        return "the mailer"
    return "SES" if getattr(output, "ses", None) is not None else None
