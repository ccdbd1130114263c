"""`whitelist`: take mail by where it comes from, who sends it, or to whom it goes (SPEC section 4)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from functions.message.addresses import address_key
from functions.message.domains import domain_key
from listener.api.context import BuildContext
from listener.api.decision import ACCEPT, DEFER, REFUSE, Decision, Phase
from listener.api.filter import Filter, FilterOptions
from listener.api.session import IPAddress, Session, Transaction
from listener.filters.pattern import Values, as_tuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED: Final = ipaddress.ip_network("::ffff:0:0/96")  # RFC 4291 section 2.5.5.2


def reverse_path(value: str) -> str:
    """An exact reverse-path as it is compared; the null sender is "" or `<>`."""
    return "" if value == "<>" else address_key(value)


def address(value: str) -> str:
    """An exact address as it is compared: canonical, an IPv4-mapped one as IPv4. Raises ValueError."""
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(
            f"{value!r} is no IP address (networks go into subnets, names into domains)"
        ) from None
    return str(getattr(found, "ipv4_mapped", None) or found)


def subnet(value: str) -> Network:
    """A network, or an address as a network of one; an IPv4-mapped one as IPv4. Raises ValueError."""
    try:
        found = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is no subnet such as 10.0.0.0/8 or 2001:db8::/32") from None
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):  # type: ignore[arg-type]
        low = int(found.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((low, found.prefixlen - 96))
    return found


def _checked(make: Any, value: str) -> str:
    make(value)
    return value


def _one(canonical: Any) -> AfterValidator:
    """Checks one value: compiled or parsed here to have its mistake told with its place."""
    return AfterValidator(partial(_checked, lambda value: Values((value,), canonical)))


_ONE_OR_MANY: Final = BeforeValidator(as_tuple, json_schema_input_type=str | list[str])

Paths = Annotated[tuple[Annotated[str, _one(reverse_path)], ...], _ONE_OR_MANY]
Names = Annotated[tuple[Annotated[str, _one(domain_key)], ...], _ONE_OR_MANY]
Addresses = Annotated[tuple[Annotated[str, _one(address)], ...], _ONE_OR_MANY]
Subnets = Annotated[tuple[Annotated[str, AfterValidator(partial(_checked, subnet))], ...], _ONE_OR_MANY]


class WhitelistOptions(FilterOptions):
    """Take mail by where it comes from, who sends it, or to whom it goes.

    Each field is a value or a list of values: exact ones, in which the case of A to Z does not
    count and domains are compared by their A-labels, or `regexp:` with an expression that has to
    match the whole text, case included unless it says `(?i)`. A field that is given and empty
    matches nothing.
    """

    type: Literal["whitelist"]

    from_: Paths | None = Field(default=None, alias="from")
    """Reverse-paths; the null sender is `""` or `<>`."""

    to: Paths | None = None
    """Recipients."""

    ips: Addresses | None = None
    """Clients' addresses; IPv4-mapped ones are compared as IPv4."""

    domains: Names | None = None
    """Clients' names, forward-confirmed and in lower case; `[address]` for those without."""

    subnets: Subnets | None = None
    """Clients' networks, `10.0.0.0/8` or `2001:db8::/32`."""


class Networks:
    """Membership in any of many networks, at a cost that does not grow with their number."""

    def __init__(self, networks: Iterable[Network]) -> None:
        by_shift: dict[tuple[int, int], set[int]] = {}
        for one in networks:
            shift = one.max_prefixlen - one.prefixlen
            by_shift.setdefault((one.version, shift), set()).add(int(one.network_address) >> shift)
        self._by_version = {
            version: tuple(
                (shift, frozenset(found)) for (v, shift), found in by_shift.items() if v == version
            )
            for version in (4, 6)
        }

    def __contains__(self, one: IPAddress) -> bool:
        number = int(one)
        return any(number >> shift in networks for shift, networks in self._by_version[one.version])


class Whitelist(Filter):
    """Accepts what is listed and refuses the rest, at each phase that its fields are about.

    `ips`, `domains` and `subnets` are alternatives of each other.
    """

    def __init__(self, name: str, options: WhitelistOptions) -> None:
        super().__init__(name)
        self._from = Values(options.from_ or (), reverse_path)
        self._to = Values(options.to or ())
        self._ips = Values(options.ips or (), address)
        self._domains = Values(options.domains or (), domain_key)
        self._subnets = Networks(map(subnet, options.subnets or ()))
        self._by_name = self.needs_name = bool(options.domains)
        self._by_subnet = bool(options.subnets)
        phases = {
            Phase.CONNECT: (options.ips, options.domains, options.subnets),
            Phase.MAIL: (options.from_,),
            Phase.RCPT: (options.to,),
        }
        self.phases = frozenset(p for p, fields in phases.items() if any(f is not None for f in fields))

    def on_connect(self, session: Session) -> Decision:
        listed = (
            session.ip in self._ips
            or (self._by_name and session.name in self._domains)
            or (self._by_subnet and self._in_subnets(session))
        )
        if listed:
            return ACCEPT
        return DEFER if self._by_name and not session.name_sure else REFUSE

    def on_mail(self, session: Session, transaction: Transaction) -> Decision:
        return ACCEPT if transaction.reverse_path in self._from else REFUSE

    def on_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Decision:
        return ACCEPT if recipient in self._to else REFUSE

    def _in_subnets(self, session: Session) -> bool:
        try:
            return session.address in self._subnets
        except ValueError:  # a peer without an IP address, on a Unix socket
            return False


def build(options: WhitelistOptions, name: str, context: BuildContext) -> Whitelist:
    """The filter of these options, which were checked when they were read."""
    return Whitelist(name, options)
