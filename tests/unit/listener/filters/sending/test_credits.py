"""Recipients that processes count ahead: no limit is passed, and none is lost with a process."""

from __future__ import annotations

import bisect
import contextlib
import os
import random
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from listener.filters.sending.counts import FILE, Counts
from listener.filters.sending.slots import TOTAL, Taken
from tests.unit.listener.filters.sending.test_counts import SECOND, FakeClock, room, window

LIMIT: Final = 20_000


def take(counts: Counts, number: int, seconds: int = 86_400, who: str = "ann") -> int:
    """Takes up to so many recipients, one by one; returns how many there was room for."""
    windows = (window(LIMIT, seconds, who),)
    for taken in range(number):
        if not isinstance(counts.take(windows), Taken):
            return taken
    return number


def ahead(counts: Counts) -> int:
    """Recipients that this process has counted ahead."""
    return sum(counts.slots.words[credit.at] for credit in counts._credits.held.values())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE


def test_a_client_that_sends_much_is_counted_ahead_and_one_that_sends_little_is_not(path: Path) -> None:
    counts = Counts(path, FakeClock().clock)
    take(counts, 1)
    assert ahead(counts) == 0
    take(counts, 1)
    assert ahead(counts) == LIMIT // 1_000
    take(counts, 15)
    assert ahead(counts) == LIMIT // 1_000 - 15
    assert room(counts, window(200, 60)) == 200
    assert len(counts._credits.held) == 1


def test_all_recipients_of_a_limit_are_there_for_those_who_want_them(path: Path) -> None:
    machine = FakeClock()
    counts = Counts(path, machine.clock)
    assert room(counts, window(LIMIT)) == LIMIT
    machine.pass_(61)
    first, second = Counts(path, machine.clock), Counts(path, machine.clock)
    got = sum(take(one, 7, seconds=60) for _ in range(2_000) for one in (first, second))
    assert got == LIMIT


@pytest.mark.parametrize("seed", range(6))
def test_no_window_has_more_than_a_naive_log_allows_whatever_processes_do(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    machine = FakeClock()
    windows = (window(4_000, 60), window(15_000, 600))
    processes = [Counts(path, machine.clock) for _ in range(3)]
    log: list[int] = []
    held: list[tuple[tuple[int, ...], int]] = []
    for _ in range(3_000):
        machine.pass_(chance.choice((0, 0, 0.01, 0.1, 0.3, 2)))
        at = chance.randrange(len(processes))
        event = chance.random()
        if event < 0.01:
            machine.wall += chance.choice((-1, 1)) * 86_400 * SECOND
        elif event < 0.03:
            processes[at] = Counts(path, machine.clock)  # the one before is dead
        elif event < 0.04:
            processes[at].close()
        elif held and event < 0.5:
            buckets, number = held.pop(chance.randrange(len(held)))
            if chance.random() < 0.3:
                processes[at].give_back(windows, buckets, number)
            elif isinstance(processes[at].renew(windows, buckets, number), Taken):
                log += [machine.steady] * number
        else:
            for _ in range(chance.choice((1, 20, 150))):
                taken = processes[at].take(windows)
                if isinstance(taken, Taken):
                    if chance.random() < 0.5:
                        log.append(machine.steady)  # the mail came in at once
                    else:
                        held.append((taken.buckets, 1))
    assert len(log) > 10_000
    for one in windows:
        for index, at in enumerate(log):
            assert index + 1 - bisect.bisect_right(log, at - one.length, 0, index) <= one.most


def test_a_sender_gets_99_percent_beside_a_process_that_keeps_its_credit(path: Path) -> None:
    machine = FakeClock()
    idle, busy = Counts(path, machine.clock), Counts(path, machine.clock)
    sent = 0
    for _ in range(60 * 20):  # 20 minutes in steps of a second
        sent += take(idle, 2, seconds=60)
        sent += take(busy, LIMIT, seconds=60)
        machine.pass_(1)
    assert 0.99 * LIMIT * 20 <= sent <= LIMIT * 21


def test_what_a_killed_process_had_left_is_there_for_others(path: Path) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            take(Counts(path), 7)
            os.write(write, b"x")
            signal.pause()
        finally:
            os._exit(1)
    assert os.read(read, 1) == b"x"
    counts = Counts(path)
    try:
        assert [one.used for one in counts.used()] == [7]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
    assert take(counts, LIMIT) == LIMIT - 7


def test_a_process_that_stops_gives_back_what_it_had_left(path: Path) -> None:
    counts, other = Counts(path), Counts(path)
    take(counts, 5)
    assert ahead(counts) > 0
    counts.close()
    assert ahead(counts) == 0
    assert take(counts, 4) == 4  # mails that are on their way are counted
    assert take(other, LIMIT) == LIMIT - 9


def test_a_recipient_given_back_is_taken_again_and_many_go_to_other_processes(path: Path) -> None:
    machine = FakeClock()
    counts, other = Counts(path, machine.clock), Counts(path, machine.clock)
    windows = (window(LIMIT),)
    takes = [counts.take(windows) for _ in range(1_000)]
    for taken in takes:
        assert isinstance(taken, Taken)
        counts.give_back(windows, taken.buckets, 1)
    assert ahead(counts) <= LIMIT // 1_000
    assert list(other.used()) == []
    assert room(other, *windows) + ahead(counts) == LIMIT


def test_quota_shows_only_what_was_sent_and_a_reset_ends_what_was_counted_ahead(path: Path) -> None:
    machine = FakeClock()
    server, beside = Counts(path, machine.clock), Counts(path, machine.clock)
    windows = (window(LIMIT, 86_400),)
    before = [server.take(windows) for _ in range(5)][-1]
    assert [one.used for one in beside.used()] == [5]
    assert beside.reset("bob") == 0
    assert beside.reset("ann") == 1
    assert beside.reset("ann") == 0
    assert list(beside.used()) == []
    assert take(server, 3) == 3
    assert isinstance(before, Taken)
    assert [one.used for one in beside.used()] == [3]
    assert take(server, LIMIT) == LIMIT - 3


def test_a_machine_that_starts_again_frees_nothing_that_was_counted_ahead(path: Path) -> None:
    machine = FakeClock()
    take(Counts(path, machine.clock), 5)
    machine.restart(off=10)
    counts = Counts(path, machine.clock)
    assert take(counts, LIMIT) == LIMIT - 2 - LIMIT // 1_000
    assert counts.slots.words[counts.slots._places[window(LIMIT, 86_400).key] + TOTAL] == LIMIT


class Died(Exception):
    """The process ends here."""


class Dying:
    """Memory of a process that dies at a later write."""

    def __init__(self, memory: Any, left: list[int]) -> None:
        self._memory = memory
        self._left = left

    def __getitem__(self, at: Any) -> Any:
        return self._memory[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise Died
        self._memory[at] = value


@pytest.mark.parametrize("step", ["the first block", "another block", "the end"])
def test_a_process_that_dies_at_any_write_loses_one_recipient_at_most(path: Path, step: str) -> None:
    machine = FakeClock()
    died = 0
    for writes in range(400):
        counts, who = Counts(path, machine.clock), f"user{writes}"
        sent = take(counts, 1 if step == "the first block" else 2, who=who)
        while step == "another block" and ahead(counts):
            sent += take(counts, 1, who=who)
        left = [writes]
        slots: Any = counts.slots
        slots.words, slots._counts = Dying(slots.words, left), Dying(slots._counts, left)
        with contextlib.suppress(Died):
            if step == "the end":
                counts.close()
            else:
                sent += take(counts, 1, who=who)
        dead = left[0] < 0
        died += dead
        slots.words, slots._counts = slots.words._memory, slots._counts._memory
        del slots, counts
        after = Counts(path, machine.clock)
        spent = LIMIT - take(after, LIMIT, who=who)
        assert sent <= spent <= sent + dead
        base = after.slots._places[window(LIMIT, 86_400, who).key]
        assert after.slots.added_up(base) == after.slots.words[base + TOTAL] == LIMIT
        if not dead:
            break
    assert died >= 10
