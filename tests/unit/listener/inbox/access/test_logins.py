"""Logins: passwords, tokens, and failures that count together with those of SMTP."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from listener.cli.hash_password import hashed
from listener.inbox.access.logins import Logins, TooMany
from listener.inbox.access.stored import MOST_FAILURES, StoredLogin
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
