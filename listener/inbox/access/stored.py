"""The logins of the configuration, as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from functions.errors import ConfigError
from listener.config.inbox import InboxUser
from listener.filters.passwords.stored import StoredPassword, is_bare, parse

MOST_FAILURES: Final = 10
"""Failed logins a minute of one network, over SMTP and HTTP together, where the file gives no
`maxAuthFailureRate`; then none of them is checked."""


class StoredLogin(NamedTuple):
    """A user's password and token as they are stored; "" for none."""

    password: str
    token: str


def stored_logins(users: Mapping[str, InboxUser], resolve: Callable[[str], str]) -> dict[str, StoredLogin]:
    """The logins of the configuration; `resolve` finds secrets. Raises ConfigError."""
    found = {}
    for name, user in users.items():
        texts = []
        for key, secret in (("password", user.password), ("token", user.token)):
            where = f"inbox.users.{name}.{key}"
            text = secret.resolve(resolve) if secret is not None else ""
            if secret is not None and secret.scheme != "plain" and is_bare(text):
                text = f"plain:{text}"
            texts.append(text)
            if secret is not None:
                _check(where, text, quick=key == "token")
        found[name] = StoredLogin(*texts)
    return found


def _check(where: str, text: str, *, quick: bool) -> None:
    try:
        stored: StoredPassword = parse(text)
    except ValueError as error:
        raise ConfigError(where, str(error), "smtp-relay hash-password makes one") from None
    if quick and stored.weight:
        raise ConfigError(
            where,
            "is a slow hash, but a token comes without a name, so each one is checked",
            "smtp-relay hash-password --algorithm sha256 makes one",
        )
