"""Logins of the configuration: secrets are found, mistakes say where they are."""

from __future__ import annotations

import pytest

from functions.errors import ConfigError
from listener.cli.hash_password import hashed
from listener.config.inbox import InboxUser
from listener.inbox.access.stored import StoredLogin, stored_logins


def test_secrets_are_found() -> None:
    user = InboxUser.model_validate({"password": "env:PASSWORD", "token": "env:TOKEN"})
    values = {"env:PASSWORD": "just text", "env:TOKEN": hashed("t", "sha256")}
    assert stored_logins({"ann": user}, values.__getitem__) == {
        "ann": StoredLogin("plain:just text", values["env:TOKEN"])
    }


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("$2b$", "bcrypt string is damaged"),
        ("sha256:12", "64 hexadecimal digits"),
        ("md5-but-not:", "does not begin with plain:"),
        ("", "is empty"),
    ],
)
def test_a_mistake_says_where_it_is(token: str, message: str) -> None:
    user = InboxUser.model_validate({"token": "env:TOKEN"})
    with pytest.raises(ConfigError, match=rf"inbox\.users\.ann\.token.*{message}"):
        stored_logins({"ann": user}, lambda _: token)


def test_a_token_needs_a_quick_hash() -> None:
    user = InboxUser.model_validate({"token": hashed("t", "bcrypt")})
    with pytest.raises(ConfigError, match="slow hash"):
        stored_logins({"ann": user}, str)
