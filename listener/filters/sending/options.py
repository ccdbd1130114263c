"""The options of `sending-policy` (docs/filters/sending-policy.md)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from functions.message.text import listed
from functions.options.types import OptionsModel
from listener.api.filter import FilterOptions, Operator
from listener.filters import anybody
from listener.filters.pattern import GLOB, as_pattern, as_tuple, is_wild, not_an_address
from listener.filters.sending.patterns import Patterns, UserNames
from listener.filters.whitelist import Subnets

MAX_RULES: Final = 1_000
MAX_LIMITS: Final = 8

MAX_WINDOW: Final = 31 * 86_400
"""Seconds of the longest time that a limit may be about."""

NULL: Final = ("", "<>")
"""The null sender."""

_LIMIT: Final = re.compile(r"\s*([1-9][0-9]{0,8})\s*/\s*([1-9][0-9]{0,4})?\s*([a-z]+)\s*")
_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 604_800),
}


class Limit(NamedTuple):
    """At most so many recipients in any `seconds`; in one mail if these are 0."""

    most: int
    seconds: int
    text: str

    @classmethod
    def read(cls, text: str) -> Limit:
        """`100/min`, `500/10min`, `20/mail`. Raises ValueError."""
        found = _LIMIT.fullmatch(text.lower())
        if found is not None and found[3] == "mail" and found[2] is None:
            return cls(int(found[1]), 0, f"{found[1]}/mail")
        if found is None or found[3] not in _UNITS:
            raise ValueError(
                f"{text!r} is no limit of recipients such as 100/min, 500/10min, 1000/h, 5000/day or 20/mail"
            )
        seconds = int(found[2] or 1) * _UNITS[found[3]]
        if seconds > MAX_WINDOW:
            raise ValueError(f"{text!r} is about more than 31 days")
        return cls(int(found[1]), seconds, f"{found[1]}/{found[2] or ''}{found[3]}")


def _limit(text: str) -> str:
    Limit.read(text)
    return text


def _checked(kind: type[Patterns | UserNames], value: str) -> str:
    kind((value,))
    return value


_ONE_OR_MANY: Final = BeforeValidator(as_tuple, json_schema_input_type=str | list[str])

Senders = Annotated[tuple[Annotated[str, AfterValidator(partial(_checked, Patterns))], ...], _ONE_OR_MANY]
Names = Annotated[tuple[Annotated[str, AfterValidator(partial(_checked, UserNames))], ...], _ONE_OR_MANY]
Limits = Annotated[
    tuple[Annotated[str, AfterValidator(_limit)], ...], _ONE_OR_MANY, Field(max_length=MAX_LIMITS)
]


class SendingRule(OptionsModel):
    """Clients, the addresses that they may use, and how much they may send."""

    user: Names | None = None
    """UserNames who logged in; `glob:*` for every one. The case of A to Z does not count."""

    ip: Subnets | None = None
    """Clients' addresses and networks."""

    from_: Senders | None = Field(default=None, alias="from")
    """Reverse-paths, `<>` for the null sender. Default: every address."""

    header_from: Senders | None = None
    """Addresses in From, Sender, Resent-From and Resent-Sender. Default: those of `from`."""

    to: Senders | None = None
    """Recipients. Default: all."""

    limits: Limits = ()
    """Most recipients of each user, or of each address if the rule names no user: `100/min`, `500/10min`,
    `5000/day`, `20/mail`."""

    over: Literal["defer", "refuse"] = "defer"
    """The answer above a limit: 451, or 550."""

    @model_validator(mode="after")
    def _sensible(self) -> SendingRule:
        if self.user is None and self.ip is None:
            raise ValueError('names no client: give user ("glob:*" for every one that logged in) or ip')
        if self.header_from is None and self.from_ and not self.authors:
            raise ValueError("from names only the null sender: say in headerFrom what its mails may have")
        return self

    @property
    def authors(self) -> tuple[str, ...] | None:
        """The addresses that the header may name; None for all."""
        if self.header_from is not None:
            return self.header_from
        return None if self.from_ is None else tuple(one for one in self.from_ if one not in NULL)

    @property
    def null(self) -> bool:
        """True if the rule says that mail may have no reverse-path."""
        return any(one in NULL for one in self.from_ or ())

    def counted(self) -> tuple[Limit, ...]:
        """The limits."""
        return tuple(map(Limit.read, self.limits))

    def advice(self) -> Sequence[tuple[str, str]]:
        """Values that are probably a mistake: their key, and what to write."""
        found = []
        given = {"user": self.user, "from": self.from_, "headerFrom": self.header_from, "to": self.to}
        for key, values in given.items():
            for index, value in enumerate(values or ()):
                if is_wild(value):
                    what = f"{value!r} means that one text, not a pattern (write {as_pattern(value)})"
                    found.append((f"{key}[{index}]", what))
                elif key != "user" and value.startswith(GLOB) and "@" not in value and "${" not in value:
                    what = f"{value!r} matches no address, because * does not match @ (write {value}@*)"
                    found.append((f"{key}[{index}]", what))
                elif key != "user" and "${" not in value and (meant := not_an_address(value)):
                    found.append((f"{key}[{index}]", f"{value!r} is no address (write {meant})"))
        return found


class SendingPolicyOptions(FilterOptions):
    """Say which client may send as whom, and how much. It only objects, so another filter must accept.

    A rule applies to a mail and a recipient if all that it names applies; the first one that does decides.
    Without any the mail is refused. Values are written as in a `whitelist`, and may have `${user}`, the
    login, and `${domain}`, what stands after its @.
    """

    model_config = ConfigDict(alias_generator=to_camel)

    type: Literal["sending-policy"]

    rules: tuple[SendingRule, ...] = Field(min_length=1, max_length=MAX_RULES)
    """The first one that applies decides."""

    on_store_error: Literal["defer", "accept"] = "defer"
    """If recipients cannot be counted: answer 451, or accept them without counting."""

    guard = True
    limits_senders = True

    @property
    def judges_content(self) -> bool:
        return True

    @property
    def counts_recipients(self) -> bool:
        return any(one.seconds for rule in self.rules for one in rule.counted())

    def identifies(self, operator: Operator) -> bool:
        """True if every rule names networks that are not everybody's. That a user logged in says nothing:
        the filter that checks the login knows users."""
        return all(rule.ip is not None and not anybody.TESTS["subnets"](rule.ip) for rule in self.rules)

    def described(self, operator: Operator) -> str:
        who = [
            *dict.fromkeys(f"user {one}" for rule in self.rules for one in rule.user or ()),
            *dict.fromkeys(one for rule in self.rules for one in rule.ip or ()),
        ]
        return f"that no rule for {listed(who)} permits"

    def advice(self) -> Sequence[str]:
        return [
            f"rules[{number}].{key}: {what}"
            for number, rule in enumerate(self.rules)
            for key, what in rule.advice()
        ]
