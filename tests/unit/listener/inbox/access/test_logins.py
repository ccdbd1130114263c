"""Logins: passwords, tokens, and failures that count together with those of SMTP."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from functions.errors import ConfigError
from listener.cli.hash_password import hashed
from listener.config.inbox import InboxUser
from listener.inbox.access.logins import MOST_FAILURES, Logins, StoredLogin, TooMany, stored_logins
from listener.monitoring.failed_logins import FailedLogins

STORED = {
    "ann": StoredLogin("plain:sécret", hashed("token-1", "sha256")),
    "job": StoredLogin("", "plain:token-2"),
}


def basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


@pytest.fixture
def failed() -> FailedLogins:
    return FailedLogins.new(2)


@pytest.fixture
def logins(failed: FailedLogins) -> Iterator[Logins]:
    made = Logins(STORED, failed.of(-1))
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("field", "user"),
    [
        (basic("ann", "sécret"), "ann"),
        ("bearer  token-1", "ann"),
        ("Bearer token-2", "job"),
        (basic("ann", "wrong"), None),
        (basic("job", ""), None),
        (basic("job", "token-2"), None),
        (basic("nobody", "sécret"), None),
        ("Bearer ", None),
        ("Bearer sécret", None),
        ("Bearer \udcff", None),
        ("Basic !", None),
        ("Basic", None),
        ("", None),
        ("Digest x", None),
    ],
)
async def test_a_login(logins: Logins, field: str, user: str | None) -> None:
    assert await logins.user_of(field, "192.0.2.1") == user


async def test_failures_of_both_doors_count_together(logins: Logins, failed: FailedLogins) -> None:
    smtp = failed.of(0)
    for _ in range(MOST_FAILURES - 1):
        smtp.add("192.0.2.1")
    assert await logins.user_of(basic("ann", "wrong"), "192.0.2.1") is None
    assert smtp.count("192.0.2.1") == MOST_FAILURES
    for field in (basic("ann", "sécret"), "Bearer token-1"):
        with pytest.raises(TooMany):
            await logins.user_of(field, "192.0.2.1")
    assert await logins.user_of("", "192.0.2.1") is None
    assert await logins.user_of(basic("ann", "sécret"), "192.0.2.2") == "ann"


async def test_addresses_of_one_ipv6_network_are_one_client(logins: Logins) -> None:
    for number in range(MOST_FAILURES):
        await logins.user_of("Bearer wrong", f"2001:db8::{number:x}")
    with pytest.raises(TooMany):
        await logins.user_of("Bearer token-1", "2001:db8::ffff:1")
    assert await logins.user_of("Bearer token-1", "2001:db8:0:1::1") == "ann"


async def test_a_slow_hash_is_checked_once_a_minute(
    failed: FailedLogins, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = Logins({"ann": StoredLogin(hashed("secret", "bcrypt"), "")}, failed.of(-1))
    assert await logins.user_of(basic("ann", "secret"), "192.0.2.1") == "ann"
    monkeypatch.setattr(logins._queue, "run", None)
    assert await logins.user_of(basic("ann", "secret"), "192.0.2.1") == "ann"
    monkeypatch.undo()
    assert await logins.user_of(basic("ann", "other"), "192.0.2.1") is None
    assert await logins.user_of(basic("bob", "secret"), "192.0.2.1") is None
    logins.stop()


class TestTheConfiguration:
    def test_secrets_are_found(self) -> None:
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
    def test_a_mistake_says_where_it_is(self, token: str, message: str) -> None:
        user = InboxUser.model_validate({"token": "env:TOKEN"})
        with pytest.raises(ConfigError, match=rf"inbox\.users\.ann\.token.*{message}"):
            stored_logins({"ann": user}, lambda _: token)

    def test_a_token_needs_a_quick_hash(self) -> None:
        user = InboxUser.model_validate({"token": hashed("t", "bcrypt")})
        with pytest.raises(ConfigError, match="slow hash"):
            stored_logins({"ann": user}, str)
