"""When each mail is due, while the wall clock is set to another time."""

from __future__ import annotations

import asyncio
import time

import pytest

from functions.local.schedule import LEAST_SPAN, Schedule, Trials


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


async def notified(schedule: Schedule, bell: asyncio.Event, seconds: float) -> bool:
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
    assert await notified(schedule, bell, 2.0)
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


class TestTrials:
    """The witness that a mail was tried for long enough; `moment` is the monotonic clock."""

    HOUR = 3_600.0
    DAY = 86_400.0
    GIVE_UP = 3 * DAY

    @pytest.fixture
    def moment(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        made = [1_000.0]
        monkeypatch.setattr(time, "monotonic", lambda: made[0])
        return made

    def fail(self, trials: Trials, moment: list[float], times: int, wait: float) -> None:
        for _ in range(times):
            moment[0] += wait
            trials.note(1)

    def lasted(self, trials: Trials, age: float, *, longest: float = 900.0) -> bool:
        """`age` is how long ago the mail was received when the process began."""
        return trials.lasted(1, self.began - age, self.GIVE_UP, longest)

    @pytest.fixture
    def trials(self, moment: list[float]) -> Trials:
        self.began = time.time()
        return Trials()

    def test_the_fifth_attempt_is_the_first_that_may_be_the_last(
        self, trials: Trials, moment: list[float]
    ) -> None:
        old = 10 * self.DAY
        for _ in range(4):
            assert not self.lasted(trials, old)
            self.fail(trials, moment, 1, 400.0)
        assert self.lasted(trials, old)
        assert not trials.lasted(2, self.began - old, self.GIVE_UP, 900.0), "each mail has its own"
        trials.forget(1)
        assert not self.lasted(trials, old)

    @pytest.mark.parametrize(("longest", "least"), [(900.0, 900.0), (0.1, LEAST_SPAN)])
    def test_they_take_as_long_as_the_longest_wait(
        self, trials: Trials, moment: list[float], longest: float, least: float
    ) -> None:
        self.fail(trials, moment, 50, 0.01)
        assert not self.lasted(trials, 10 * self.DAY, longest=longest)
        moment[0] += least - 1
        assert not self.lasted(trials, 10 * self.DAY, longest=longest)
        moment[0] += 1
        assert self.lasted(trials, 10 * self.DAY, longest=longest)

    def test_the_mail_must_be_old_by_the_time_of_this_process(
        self, trials: Trials, moment: list[float], clock: Clock
    ) -> None:
        self.fail(trials, moment, 50, 300.0)
        clock.offset = 10 * self.DAY
        assert not self.lasted(trials, 0.0)
        self.fail(trials, moment, 96, 1_800.0)
        clock.offset = 0.0
        assert not self.lasted(trials, 0.0)
        self.fail(trials, moment, 60, 1_800.0)
        assert self.lasted(trials, 0.0), "it was tried for three days"
        assert self.lasted(trials, -100 * self.DAY), "whatever its envelope says"

    def test_a_process_that_was_stopped_for_days_counts_anew(
        self, trials: Trials, moment: list[float]
    ) -> None:
        self.fail(trials, moment, 50, 600.0)
        moment[0] += 4 * self.DAY
        assert not self.lasted(trials, 0.0), "the first attempt after it"
        self.fail(trials, moment, 4, 60.0)
        assert not self.lasted(trials, 0.0), "it has not tried for long yet"
        self.fail(trials, moment, 1, 900.0)
        assert self.lasted(trials, 0.0)
