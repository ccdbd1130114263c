"""At most so many mails in a while, without holding the threads of other outputs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.errors import Temporary
from functions.processors.mailer.rate import LONGEST, WAITING, Rate
from tests.support.clients.relaying import endless


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def rate(time: Time, limit: int, delta: float) -> Rate:
    return Rate(limit, delta, clock=time, sleep=time.sleep)


@given(
    limit=st.integers(1, 5),
    delta=st.floats(0.1, 10),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_no_while_has_more_mails_than_the_limit(limit: int, delta: float, gaps: list[float]) -> None:
    time = Time()
    limited = rate(time, limit, delta)
    sent: list[float] = []
    for gap in gaps:
        time.now += gap
        with suppress(Temporary):
            limited.turn(endless)
            sent.append(time.now)
    for first, after in zip(sent, sent[limit:], strict=False):
        assert after - first >= delta - 1e-6


def test_the_whole_rate_is_used() -> None:
    time = Time()
    limited = rate(time, 10, 1.0)
    for _ in range(100):
        limited.turn(endless)
    assert time.now - 100.0 == pytest.approx(9.0)


def test_a_long_wait_is_not_made_in_the_thread() -> None:
    time = Time()
    limited = rate(time, 2, 60.0)
    limited.turn(endless)
    limited.turn(endless)
    waits = []
    for _ in range(3):
        with pytest.raises(Temporary, match="waiting for rateLimit") as caught:
            limited.turn(endless)
        waits.append(caught.value.retry_after)
    assert waits == [90.0, 120.0, 150.0], "they come again one after the other"
    assert time.now == 100.0


def test_no_mail_waits_beyond_the_time_of_its_run() -> None:
    time = Time()
    limited = rate(time, 1, 1.0)
    limited.turn(endless)
    with pytest.raises(Temporary):
        limited.turn(lambda: 35.5)
    limited.turn(lambda: 36.5)


def test_few_mails_wait_at_a_time() -> None:
    gate, asleep = threading.Event(), threading.Semaphore(0)

    def sleep(seconds: float) -> None:
        assert 0 < seconds <= LONGEST
        asleep.release()
        assert gate.wait(10)

    limited = Rate(1, 0.5, sleep=sleep)
    limited.turn(endless)
    with ThreadPoolExecutor(WAITING) as pool:
        waiting = [pool.submit(limited.turn, endless) for _ in range(WAITING)]
        for _ in range(WAITING):
            assert asleep.acquire(timeout=10)
        with pytest.raises(Temporary, match="waiting for rateLimit"):
            limited.turn(endless)
        gate.set()
        for each in waiting:
            each.result(10)
