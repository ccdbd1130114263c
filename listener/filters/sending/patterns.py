"""Values of a rule: users, and addresses that may depend on the user."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from functions.message.addresses import address_key
from functions.message.domains import fold_ascii
from listener.filters.pattern import GLOB, PREFIX, Values
from listener.filters.whitelist import reverse_path

_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}?")
_EXAMPLE: Final = "user@domain.example"
_ANY: Final = f"{GLOB}*"

_REMEMBERED: Final = 1_024
"""Users whose values are kept in compiled form."""


class Patterns:
    """Addresses, each exact, `glob:…` or `regexp:…`; `${user}` is the name of the user that logged in, and
    `${domain}` what stands after the last @ of that name. Neither is ever read as a pattern. Raises
    ValueError for a value that cannot be."""

    __slots__ = ("_fixed", "_of_users", "_own")

    def __init__(self, values: Iterable[str]) -> None:
        given = tuple(values)
        self._own = tuple(one for one in given if "${" in one)
        self._fixed = _values(one for one in given if "${" not in one)
        self._of_users: dict[str, Values] = {}
        for value in self._own:
            for name in _PLACEHOLDER.findall(value):
                if f"${{{name}}}" not in value or name not in ("user", "domain"):
                    raise ValueError(f"{value!r}: there is no ${{{name}}}, only ${{user}} and ${{domain}}")
            made = _for_user(value, _EXAMPLE)
            assert made is not None
            _values((made,))

    def has(self, address: str, user: str) -> bool:
        """True if a value matches; `user` is "" for a client that did not log in."""
        if address in self._fixed:
            return True
        return bool(self._own and user) and address in self._values_of(user)

    def _values_of(self, user: str) -> Values:
        found = self._of_users.get(user)
        if found is None:
            if len(self._of_users) >= _REMEMBERED:
                self._of_users.clear()
            found = self._of_users[user] = _usable(_for_user(one, user) for one in self._own)
        return found


class UserNames:
    """Names of users, each exact, `glob:…` or `regexp:…`. `glob:*` is every name, also one with an @."""

    __slots__ = ("_any", "_values")

    def __init__(self, values: Iterable[str]) -> None:
        given = tuple(values)
        self._any = _ANY in given
        self._values = Values(given, canonical=fold_ascii, glob=fold_ascii)

    def __contains__(self, user: str) -> bool:
        return self._any or user in self._values


def _values(values: Iterable[str]) -> Values:
    return Values(values, canonical=reverse_path, met=address_key)


def _usable(values: Iterable[str | None]) -> Values:
    """Those of the values that can be: a name of a user may be a text that no address has."""
    found = []
    for value in values:
        try:
            if value is not None:
                _values((value,))
                found.append(value)
        except ValueError:
            continue
    return _values(found)


def _for_user(value: str, user: str) -> str | None:
    """The value with a user's name in it; None if it then matches nothing."""
    domain = user.rpartition("@")[2] if "@" in user else ""
    if "${domain}" in value and not domain:
        return None
    if value.startswith(GLOB) and ("*" in user or "?" in user):
        return None  # a glob has no way to write them
    if value.startswith(PREFIX):
        user, domain = re.escape(user), re.escape(domain)
    made = _PLACEHOLDER.sub(lambda found: user if found[1] == "user" else domain, value)
    # The name of a user never makes a pattern of an exact value.
    return None if made.startswith((PREFIX, GLOB)) and not value.startswith((PREFIX, GLOB)) else made
