"""`whitelist`: accept mail by client, sender or recipient (docs/filters/whitelist.md).

`blacklist` has the same fields and compares them in the same way.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from functions.message.addresses import address_key
from functions.message.domains import domain_key, fold_ascii
from functions.message.text import listed
from functions.options.types import Breaking
from listener.api.decision import ACCEPT, DEFER, REFUSE, Decision, Phase
from listener.api.filter import BuildContext, Filter, FilterOptions, Operator
from listener.api.session import IPAddress, Session, Transaction
from listener.filters import anybody
from listener.filters.pattern import (
    GLOB,
    PREFIX,
    Values,
    as_pattern,
    as_tuple,
    domain_glob,
    is_wild,
    not_an_address,
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED: Final = ipaddress.ip_network("::ffff:0:0/96")  # RFC 4291 section 2.5.5.2


def reverse_path(value: str) -> str:
    """An exact reverse-path in the compared form; the null sender is "" or `<>`."""
    return "" if value == "<>" else address_key(value)


def address(value: str) -> str:
    """An exact address in the compared form: canonical, an IPv4-mapped one as IPv4. Raises ValueError."""
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(
            f"{value!r} is not an IP address (networks go in subnets, names in domains, a pattern is {GLOB}…)"
        ) from None
    return str((found.version == 6 and found.ipv4_mapped) or found)


def subnet(value: str) -> Network:
    """A network, or an address as a network of one; an IPv4-mapped one as IPv4. Raises ValueError."""
    try:
        found = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is not a subnet such as 10.0.0.0/8 or 2001:db8::/32") from None
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):  # type: ignore[arg-type]
        low = int(found.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((low, found.prefixlen - 96))
    return found


def _checked(make: Any, value: str) -> str:
    make(value)
    return value


_MAKE: Final[Mapping[str, Callable[[Iterable[str]], Values]]] = {
    "from": partial(Values, canonical=reverse_path, met=address_key),
    "to": Values,
    "ips": partial(Values, canonical=address, met=str, glob=fold_ascii),
    "domains": partial(Values, canonical=domain_key, glob=domain_glob),
}
"""The comparison for the values of a key."""


def _one(key: str) -> AfterValidator:
    """Check one value: it is compiled or parsed here, because here its mistake is reported with its place."""
    return AfterValidator(partial(_checked, lambda value: _MAKE[key]((value,))))


_ONE_OR_MANY: Final = BeforeValidator(as_tuple, json_schema_input_type=str | list[str])

Paths = Annotated[tuple[Annotated[str, _one("from")], ...], _ONE_OR_MANY]
Names = Annotated[tuple[Annotated[str, _one("domains")], ...], _ONE_OR_MANY]
Addresses = Annotated[tuple[Annotated[str, _one("ips")], ...], _ONE_OR_MANY]
Subnets = Annotated[tuple[Annotated[str, AfterValidator(partial(_checked, subnet))], ...], _ONE_OR_MANY]


class ListOptions(FilterOptions):
    """The values that `whitelist` and `blacklist` compare with."""

    from_: Paths | None = Field(default=None, alias="from")
    """Reverse-paths."""

    to: Paths | None = None
    """Recipients."""

    ips: Addresses | None = None
    """Clients' addresses."""

    domains: Names | None = None
    """Clients' names, forward-confirmed; `[address]` for those without."""

    subnets: Subnets | None = None
    """Clients' networks."""

    def values(self) -> Mapping[str, tuple[str, ...]]:
        """The values by key; keys that are missing or empty are left out."""
        given = {
            "from": self.from_,
            "to": self.to,
            "ips": self.ips,
            "domains": self.domains,
            "subnets": self.subnets,
        }
        return {key: values for key, values in given.items() if values}

    def never_accepts(self, environ: Mapping[str, str], *, auth: bool, names: bool) -> str:
        keys = self.values().keys()
        if not keys:
            return "lists nothing (give ips, subnets, domains, from or to)"
        if not names and "domains" in keys and not {"ips", "subnets"} & keys:
            return "asks for the client's name, and disableReverseLookup leaves clients without one"
        return ""

    def described(self, operator: Operator) -> str:
        values = self.values()
        client = [one for key in ("ips", "subnets", "domains") for one in values.get(key, ())]
        said = (
            ("from clients at ", client),
            ("with the reverse-path ", [one or "<>" for one in values.get("from", ())]),
            ("to ", values.get("to", ())),
        )
        parts = [words + listed(which) for words, which in said if which]
        return f" {'or' if operator == 'OR' else 'and'} ".join(parts) or "of a list that is empty"

    def advice(self) -> Sequence[str]:
        found = []
        for key, values in self.values().items():
            for index, value in enumerate(values):
                if is_wild(value):
                    what = f"{value!r} means that one text, not a pattern (write {as_pattern(value)})"
                    found.append(f"{key}[{index}]: {what}")
                elif key in ("from", "to") and value.startswith(GLOB) and "@" not in value:
                    what = f"{value!r} matches no address, because * does not match @ (write {value}@*)"
                    found.append(f"{key}[{index}]: {what}")
                elif key in ("from", "to") and (meant := not_an_address(value)):
                    found.append(f"{key}[{index}]: {value!r} is no address (write {meant})")
                elif key == "domains" and "@" in value:
                    what = f"{value!r} is not the name of a machine (mail addresses stand in from and to)"
                    found.append(f"{key}[{index}]: {what}")
        return found


class WhitelistOptions(ListOptions):
    """Accept mail by its client, sender or recipient.

    Each field is a value or a list of values. The case of A to Z does not count in exact values, and
    domains are compared by their A-labels. `glob:` with a pattern compares in the same way; in it `*`
    matches any characters except `@`, and `?` matches one. `regexp:` with an expression must match the
    whole text, case included unless it says `(?i)`. A given, empty field matches nothing.
    """

    type: Literal["whitelist"]

    def identifies(self, operator: Operator) -> bool:
        """True for the client's address, network or name. A client can state any reverse-path, and a
        recipient says nothing about the sender."""
        values = self.values()
        client = [anybody.TESTS[key](values[key]) for key in anybody.TESTS if key in values]
        said = "from" in values or "to" in values
        return not (any(client) or (said and (operator == "OR" or not client)))

    @property
    def limits_recipients(self) -> bool:
        return bool(self.to) and not anybody.any_mailbox(self.to or ())

    def loopingz_differences(self) -> Sequence[str]:
        found: list[str] = []
        compared = [one for key, values in self.values().items() if key != "subnets" for one in values]
        if self.to:
            found.append("a refused RCPT concerns only that recipient: the mail goes to the others")
        if any(value.startswith(PREFIX) for value in compared):
            text = (
                "regexps match the whole value (anchored at both ends), without lookaround or backreferences"
            )
            found.append(Breaking(text))
        if any(not value.startswith((PREFIX, GLOB)) for value in compared):
            found.append("exact values are compared without regard to case")
        if self.domains:
            text = "domains: a client's reverse name counts only if it resolves back to its address"
            found.append(Breaking(text))
        return found


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


class Lists(Filter):
    """The shared part of `whitelist` and `blacklist`: the values, the phase of each, and the hooks, whose
    decisions the filters set."""

    same_at_mail = True
    listed: ClassVar[Decision]
    unlisted: ClassVar[Decision]

    def __init__(self, name: str, options: ListOptions) -> None:
        super().__init__(name)
        self._from = _MAKE["from"](options.from_ or ())
        self._to = _MAKE["to"](options.to or ())
        self._ips = _MAKE["ips"](options.ips or ())
        self._domains = _MAKE["domains"](options.domains or ())
        self._subnets = Networks(map(subnet, options.subnets or ()))
        self._by_name = self.needs_name = bool(options.domains)
        self.same_at_connect = not self._by_name
        self._by_subnet = bool(options.subnets)
        phases = {
            Phase.CONNECT: (options.ips, options.domains, options.subnets),
            Phase.MAIL: (options.from_,),
            Phase.RCPT: (options.to,),
        }
        self.phases = frozenset(p for p, fields in phases.items() if any(f is not None for f in fields))

    def client(self, session: Session) -> bool | None:
        """True if the client is listed; None if its name decides, and DNS did not answer."""
        listed = (
            session.ip in self._ips
            or (self._by_name and session.name in self._domains)
            or (self._by_subnet and self._in_subnets(session))
        )
        return None if not listed and self._by_name and not session.name_sure else listed

    def _in_subnets(self, session: Session) -> bool:
        try:
            return session.address in self._subnets
        except ValueError:  # a peer without an IP address, on a Unix socket
            return False

    def on_connect(self, session: Session) -> Decision:
        listed = self.client(session)
        return DEFER if listed is None else self.listed if listed else self.unlisted

    def on_mail(self, session: Session, transaction: Transaction) -> Decision:
        return self.listed if transaction.reverse_path in self._from else self.unlisted

    def on_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Decision:
        return self.listed if recipient in self._to else self.unlisted


class Whitelist(Lists):
    """Accepts listed values and refuses all others, at each phase that its fields are about.

    `ips`, `domains` and `subnets` are alternatives of each other.
    """

    listed = ACCEPT
    unlisted = REFUSE


def build(options: WhitelistOptions, name: str, context: BuildContext) -> Whitelist:
    """The filter of these options, which were checked when they were read."""
    return Whitelist(name, options)
