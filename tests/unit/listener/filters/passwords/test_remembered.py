"""How long right credentials are remembered, and what makes them be forgotten."""

from __future__ import annotations

import pytest

from listener.filters.passwords.remembered import MAX_USERS, Remembered
from listener.filters.passwords.stored import parse

BOB = parse("plain:secret")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def remembered(clock: Clock) -> Remembered:
    made = Remembered(60.0, clock)
    made.add("bob", BOB, "secret")
    return made


def test_the_same_credentials_count_for_a_minute(remembered: Remembered, clock: Clock) -> None:
    assert remembered.knows("bob", BOB, "secret")
    clock.now = 59.9
    assert remembered.knows("bob", BOB, "secret"), "use makes it no longer"
    clock.now = 60.0
    assert not remembered.knows("bob", BOB, "secret")


def test_others_do_not(remembered: Remembered) -> None:
    assert not remembered.knows("bob", BOB, "Secret")
    assert not remembered.knows("bob", BOB, "")
    assert not remembered.knows("ann", BOB, "secret")
    assert remembered.knows("bob", BOB, "secret")


def test_another_stored_password_of_the_user_forgets_the_old_one(remembered: Remembered) -> None:
    assert not remembered.knows("bob", parse("plain:secret"), "secret")
    assert not remembered.knows("bob", BOB, "secret")


def test_a_user_that_is_gone_is_forgotten(remembered: Remembered) -> None:
    assert not remembered.knows("bob", None, "secret")


def test_forget(remembered: Remembered) -> None:
    remembered.forget()
    assert not remembered.knows("bob", BOB, "secret")


def test_nothing_longer_than_a_minute_and_nothing_at_all(clock: Clock) -> None:
    long, none = Remembered(3600.0, clock), Remembered(0.0, clock)
    for one in (long, none):
        one.add("bob", BOB, "secret")
    assert not none.knows("bob", BOB, "secret")
    clock.now = 60.0
    assert not long.knows("bob", BOB, "secret")


def test_memory_holds_no_password_and_is_bounded(remembered: Remembered) -> None:
    assert "secret" not in repr(remembered._known)
    assert Remembered(60.0)._digest("bob", "secret") != remembered._digest("bob", "secret")
    for number in range(MAX_USERS + 5):
        remembered.add(f"u{number}", BOB, "secret")
    assert len(remembered._known) == MAX_USERS
