"""Values of a rule: users, and addresses that depend on the user."""

from __future__ import annotations

import pytest

from listener.filters.sending.patterns import Patterns, UserNames


@pytest.mark.parametrize(
    ("value", "user", "address", "has"),
    [
        ("${user}", "ann@example.com", "ANN@example.com", True),
        ("${user}", "ann@example.com", "bob@example.com", False),
        ("${user}", "", "ann@example.com", False),
        ("${user}@example.com", "ann", "ann@example.com", True),
        ("${user}@example.com", "ann", "bob@example.com", False),
        ("glob:*@${domain}", "ann@example.com", "sales@example.com", True),
        ("glob:*@${domain}", "ann@example.com", "sales@evil.example", False),
        ("glob:*@${domain}", "ann", "sales@", False),
        ("glob:${user}+*@example.com", "ann", "ann+news@example.com", True),
        ("glob:${user}+*@example.com", "*", "bob+news@example.com", False),
        ("regexp:${user}(\\+.*)?@example\\.com", "a.n", "a.n+x@example.com", True),
        ("regexp:${user}(\\+.*)?@example\\.com", "a.n", "abn@example.com", False),
        ("regexp:${user}@example\\.com", ".*", "bob@example.com", False),
        ("${user}", "glob:*@example.com", "bob@example.com", False),
        ("${user}", "regexp:.*", "bob@example.com", False),
        ("${domain}", "x@regexp:.*", "bob@example.com", False),
        ("glob:*@example.com", "", '"a@evil.example"@example.com', False),
        ("glob:*@example.com", "", "a@evil.example@example.com", False),
        ("glob:*@münchen.example", "", "a@xn--mnchen-3ya.example", True),
        ("glob:*@example.com", "", "a@exаmple.com", False),  # a Cyrillic letter
        ("glob:*@${domain}", "ann@münchen.example", "bob@xn--mnchen-3ya.example", True),
    ],
)
def test_an_address_is_compared_with_the_user_in_its_place(
    value: str, user: str, address: str, has: bool
) -> None:
    assert Patterns((value,)).has(address, user) is has


@pytest.mark.parametrize("value", ["${users}@example.com", "${user@example.com", "regexp:(${user}", "${}"])
def test_a_value_that_cannot_be_is_a_mistake(value: str) -> None:
    with pytest.raises(ValueError, match=r"\$\{|regexp"):
        Patterns((value,))


def test_every_user_is_meant_by_a_star_also_one_with_an_at() -> None:
    assert "ann@example.com" in UserNames(("glob:*",))
    assert "ann@example.com" not in UserNames(("glob:a*",))
    assert "ANN" in UserNames(("ann",))


def test_many_users_take_bounded_memory() -> None:
    patterns = Patterns(("${user}@example.com",))
    for number in range(5_000):
        assert patterns.has(f"user{number}@example.com", f"user{number}")
    assert len(patterns._of_users) <= 1_024
