"""Failed logins: processes count them together, for a minute, in constant memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from listener.monitoring.failed_logins import MOST, PERIOD, FailedLogins


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def failed() -> Iterator[FailedLogins]:
    made = FailedLogins.new(3)
    yield made
    os.close(made.fd)


def test_each_process_sees_its_own_failures_and_those_of_the_others(failed: FailedLogins) -> None:
    first, second, last = failed.of(0), failed.of(1), failed.of(-1)
    for each in (first, first, last):
        each.add("192.0.2.1")
    second.add("192.0.2.2")
    assert [each.count("192.0.2.1") for each in (first, second, last)] == [3, 3, 3]
    assert [each.elsewhere("192.0.2.1") for each in (first, second, last)] == [1, 3, 2]
    assert last.count("192.0.2.2") == 1
    assert last.count("2001:db8::/64") == 0


def test_a_failure_counts_for_a_minute(failed: FailedLogins) -> None:
    clock = Clock()
    one, other = failed.of(0, clock), failed.of(1, clock)
    one.add("a")
    clock.now += PERIOD - 1
    one.add("a")
    assert other.count("a") == 2
    clock.now += 1
    assert other.count("a") == 1
    clock.now += PERIOD
    assert other.count("a") == 0


def test_memory_is_constant_and_the_oldest_failures_are_forgotten(failed: FailedLogins) -> None:
    one = failed.of(0)
    one.add("first")
    for number in range(MOST - 1):
        one.add(f"{number % 7}")
    assert one.count("first") == 1
    one.add("more")
    assert one.count("first") == 0
    assert sum(one.count(f"{number}") for number in range(7)) == MOST - 1


def test_a_process_that_is_started_by_its_name_has_the_same_memory(failed: FailedLogins) -> None:
    program = (
        "import sys; from listener.monitoring.failed_logins import FailedLogins;"
        "one = FailedLogins(int(sys.argv[1])).of(-1); one.add('a'); print(one.count('a'))"
    )
    mine = failed.of(0)
    mine.add("a")
    done = subprocess.run(
        [sys.executable, "-c", program, str(failed.fd)],
        pass_fds=[failed.fd],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2\n"
    assert mine.count("a") == 2
