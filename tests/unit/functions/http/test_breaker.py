"""The circuit to a server, and the rate of requests."""

from __future__ import annotations

import pytest

from functions.errors import HeldBack
from functions.http.breaker import FAILURES, PLENTY, Breaker, RequestRate


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("hook", clock=clock)


def fail(breaker: Breaker, times: int = FAILURES, asked: float | None = None) -> None:
    for _ in range(times):
        breaker.enter()
        breaker.failed(asked)


def test_a_few_failures_do_not_open_it(breaker: Breaker) -> None:
    fail(breaker, FAILURES - 1)
    breaker.succeeded()
    fail(breaker, FAILURES - 1)
    assert breaker.room == PLENTY


def test_no_request_is_made_while_it_is_open_and_one_after_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    assert breaker.room == 0
    with pytest.raises(HeldBack) as held:
        breaker.enter()
    assert held.value.retry_after == pytest.approx(5.0)
    clock.now += 5.0
    assert breaker.room == 1
    breaker.enter()
    assert breaker.room == 0
    with pytest.raises(HeldBack):
        breaker.enter()
    breaker.succeeded()
    assert breaker.room == PLENTY


def test_it_is_open_for_longer_each_time_and_not_for_ever(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    waits = []
    for _ in range(10):
        with pytest.raises(HeldBack) as held:
            breaker.enter()
        assert held.value.retry_after is not None
        waits.append(held.value.retry_after)
        clock.now += held.value.retry_after
        fail(breaker, 1)
    assert waits == pytest.approx([5, 10, 20, 40, 80, 160, 300, 300, 300, 300])


def test_a_server_may_ask_for_a_longer_pause(breaker: Breaker) -> None:
    fail(breaker, asked=120.0)
    with pytest.raises(HeldBack) as held:
        breaker.enter()
    assert held.value.retry_after == pytest.approx(120.0)


def test_late_failures_of_earlier_requests_change_nothing(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        breaker.enter()
    for _ in range(20):
        breaker.failed()
    clock.now += 5.0
    assert breaker.room == 1


def test_a_trial_that_was_not_made_is_given_back(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 5.0
    breaker.enter()
    breaker.abandoned()
    breaker.enter()


def test_the_rate_of_requests_is_kept(clock: Clock) -> None:
    rate = RequestRate(10.0, clock)
    made = 0
    for _ in range(500):
        try:
            rate.enter()
            made += 1
        except HeldBack:
            assert rate.room == 0
        clock.now += 0.01
    assert 50 <= made <= 60


def test_a_rate_below_one_a_second(clock: Clock) -> None:
    rate = RequestRate(0.1, clock)
    assert rate.room == 1
    rate.enter()
    with pytest.raises(HeldBack) as held:
        rate.enter()
    assert held.value.retry_after == pytest.approx(10.0)
    clock.now += 9.0
    assert rate.room == 0
    clock.now += 1.0
    assert rate.room == 1
    rate.enter()


def test_without_a_rate_there_is_always_room(clock: Clock) -> None:
    rate = RequestRate(None, clock)
    for _ in range(1000):
        rate.enter()
    assert rate.room == PLENTY
