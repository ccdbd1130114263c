"""When which mail is due, while the wall clock is set to something else."""

from __future__ import annotations

import asyncio
import time

import pytest

from functions.local.schedule import Schedule


class Clock:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._real = time.time

    def __call__(self) -> float:
        return self._real() + self.offset


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "time", made)
    return made


async def rung(schedule: Schedule, bell: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(bell.wait(), seconds)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("jump", [-3600.0, -0.5, 0.0, 3600.0])
async def test_an_attempt_comes_when_it_was_promised(clock: Clock, jump: float) -> None:
    bell = asyncio.Event()
    schedule = Schedule(bell.set)
    schedule.add(1, time.time() + 0.1)
    clock.offset += jump
    assert schedule.pop() is None
    assert await rung(schedule, bell, 2.0)
    assert schedule.pop() == 1
    assert 1 not in schedule


async def test_a_later_call_replaces_an_earlier_one(clock: Clock) -> None:
    schedule = Schedule(lambda: None)
    schedule.add(1, time.time() - 5)
    schedule.add(1, time.time() + 60)
    schedule.add(2, time.time() - 1)
    assert [schedule.pop(), schedule.pop()] == [2, None]
    assert 1 in schedule
    schedule.cancel()


async def test_what_is_overdue_comes_at_once(clock: Clock) -> None:
    schedule = Schedule(lambda: None)
    schedule.add(3, 0.0)
    assert schedule.pop() == 3
    schedule.cancel()
