"""Counts in sliding windows: never above a limit, by a naive log; restarts, killed processes, clocks."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from listener.filters.sending import slots as module
from listener.filters.sending.clock import Clock
from listener.filters.sending.counts import FILE, Counts, Over
from listener.filters.sending.slots import StoreFault, Taken, Window

SECOND: Final = 1_000_000_000


class FakeClock:
    """The clocks of a machine that a test moves."""

    def __init__(self) -> None:
        self.steady, self.wall, self.boot = 5_000 * SECOND, 1_800_000_000 * SECOND, 7

    def pass_(self, seconds: float) -> None:
        self.steady += int(seconds * SECOND)
        self.wall += int(seconds * SECOND)

    def restart(self, off: float) -> None:
        self.wall += int(off * SECOND)
        self.steady, self.boot = 20 * SECOND, self.boot + 1

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.steady, lambda: self.wall, lambda: self.boot)


def window(most: int, seconds: int = 60, who: str = "ann") -> Window:
    return Window.of(f"{who}/{seconds}", seconds, most, "out", "policy", "rules[0]", f"{most}", who)


def room(counts: Counts, *windows: Window) -> int:
    """How many recipients are taken, one by one."""
    taken = 0
    while isinstance(counts.take(windows), Taken):
        taken += 1
    return taken


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("counts") / FILE


def test_a_limit_is_used_up_exactly_and_is_free_again_after_its_window() -> None:
    machine = FakeClock()
    counts = Counts(None, machine.clock)
    assert room(counts, window(100)) == 100
    machine.pass_(59.9)
    assert room(counts, window(100)) == 0
    machine.pass_(0.1 + 60 / module.PARTS)
    assert room(counts, window(100)) == 100


@pytest.mark.parametrize("seed", range(6))
def test_no_window_ever_has_more_than_a_naive_log_allows_and_a_greedy_sender_gets_nearly_all(
    seed: int,
) -> None:
    chance = random.Random(seed)
    machine = FakeClock()
    counts = Counts(None, machine.clock)
    windows = (window(40, 60), window(150, 600))
    log: list[int] = []
    held: list[tuple[tuple[int, ...], int]] = []
    for _ in range(4_000):
        machine.pass_(chance.choice((0, 0.01, 0.3, 2, 9)))
        if chance.random() < 0.05:
            machine.wall += chance.choice((-1, 1)) * 86_400 * SECOND
        if held and chance.random() < 0.3:
            buckets, number = held.pop(chance.randrange(len(held)))
            if chance.random() < 0.5:
                counts.give_back(windows, buckets, number)
            else:
                renewed = counts.renew(windows, buckets, number)
                if isinstance(renewed, Taken):
                    log += [machine.steady] * number
            continue
        number = chance.choice((1, 1, 1, 5))
        taken = counts.take(windows, number)
        if isinstance(taken, Taken):
            held.append((taken.buckets, number))
    for at in log:
        for one in windows:
            assert sum(at - one.length < other <= at for other in log) <= one.most


def test_a_sender_that_always_waits_for_room_gets_99_percent_of_the_limit() -> None:
    machine = FakeClock()
    counts = Counts(None, machine.clock)
    sent = 0
    for _ in range(100 * 60 * 10):  # 100 minutes in steps of a tenth of a second
        sent += room(counts, window(200))
        machine.pass_(0.1)
    assert 0.99 * 200 * 100 <= sent <= 200 * 101


def test_a_wall_clock_that_jumps_moves_no_window() -> None:
    machine = FakeClock()
    counts = Counts(None, machine.clock)
    room(counts, window(10))
    for jump in (-400 * 86_400, 800 * 86_400):
        machine.wall += jump * SECOND
        assert room(counts, window(10)) == 0


def test_counts_survive_a_restart_of_the_server_and_of_the_machine(tmp_path: Path) -> None:
    machine = FakeClock()
    path = tmp_path / FILE
    assert room(Counts(path, machine.clock), window(10, 3_600)) == 10
    assert room(Counts(path, machine.clock), window(10, 3_600)) == 0
    machine.pass_(1_800)
    room(Counts(path, machine.clock), window(1, who="bob"))
    machine.restart(off=600)
    assert room(Counts(path, machine.clock), window(10, 3_600)) == 0
    machine.restart(off=1_300)
    assert room(Counts(path, machine.clock), window(10, 3_600)) == 10


def test_a_machine_that_starts_with_an_earlier_wall_clock_frees_nothing(tmp_path: Path) -> None:
    machine = FakeClock()
    path = tmp_path / FILE
    room(Counts(path, machine.clock), window(10))
    machine.restart(off=-86_400)
    counts = Counts(path, machine.clock)
    assert room(counts, window(10)) == 0
    machine.pass_(61)
    assert room(counts, window(10)) == 10


def test_a_changed_limit_keeps_the_count() -> None:
    counts = Counts(None, FakeClock().clock)
    assert room(counts, window(10)) == 10
    assert room(counts, window(15)) == 5


def test_what_is_given_back_counts_no_more_and_what_is_renewed_counts_from_then() -> None:
    machine = FakeClock()
    counts = Counts(None, machine.clock)
    one = window(10)
    taken = counts.take((one,), 4)
    assert isinstance(taken, Taken)
    counts.give_back((one,), taken.buckets, 4)
    assert room(counts, one) == 10
    machine.pass_(120)
    taken = counts.take((one,), 10)
    assert isinstance(taken, Taken)
    machine.pass_(50)
    renewed = counts.renew((one,), taken.buckets, 10)
    assert isinstance(renewed, Taken)
    machine.pass_(20)
    assert room(counts, one) == 0


def test_a_reservation_that_outlived_its_window_needs_room_again() -> None:
    machine = FakeClock()
    counts = Counts(None, machine.clock)
    one = window(10)
    taken = counts.take((one,), 6)
    assert isinstance(taken, Taken)
    machine.pass_(90)
    assert room(counts, one) == 10
    assert counts.renew((one,), taken.buckets, 6) == Over(0)


def test_the_operator_is_warned_once_for_each_window_and_user() -> None:
    machine = FakeClock()
    counts = Counts(None, machine.clock)
    warned = []
    for _ in range(1_000):
        for who in ("ann", "bob"):
            taken = counts.take((window(50, who=who),))
            if isinstance(taken, Taken) and taken.warn:
                warned.append((who, machine.steady))
        machine.pass_(0.2)
    assert 2 * 3 <= len(warned) <= 2 * 4
    assert {who for who, _ in warned} == {"ann", "bob"}


def test_a_slot_that_a_dead_process_was_changing_is_added_up_again() -> None:
    machine = FakeClock()
    counts = Counts(None, machine.clock)
    one = window(10)
    room(counts, one)
    base = counts.slots._places[one.key]
    counts.slots.words[base + 2] = 3  # the total, which the process did not write any more
    counts.slots.words[1] = base
    assert room(counts, one) == 0


def test_more_users_than_fit_are_a_fault_until_windows_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOTS", 64)
    monkeypatch.setattr(module, "_PROBES", 64)
    machine = FakeClock()
    counts = Counts(None, machine.clock)
    for number in range(64):
        counts.take((window(5, who=f"user{number}"),))
    with pytest.raises(StoreFault):
        counts.take((window(5, who="one more"),))
    machine.pass_(61)
    assert isinstance(counts.take((window(5, who="one more"),)), Taken)


def test_a_file_that_holds_something_else_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(random.Random(1).randbytes(5_000_000))
    assert room(Counts(path), window(10)) == 10


def test_a_folder_that_takes_no_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreFault):
        Counts(tmp_path / "file" / FILE)


def test_counts_are_shown_and_reset_beside_a_server(tmp_path: Path) -> None:
    server, beside = Counts(tmp_path / FILE), Counts(tmp_path / FILE)
    room(server, window(10, 3_600))
    server.take((window(5, 3_600, "bob"),), 2)
    shown = sorted((one.label[-1], one.used, one.most, one.seconds) for one in beside.used())
    assert shown == [("ann", 10, 10, 3_600), ("bob", 2, 5, 3_600)]
    assert beside.reset("ann") == 1
    assert room(server, window(10, 3_600)) == 10
    assert beside.reset() == 2
    assert list(beside.used()) == []


@contextlib.contextmanager
def workers(number: int, path: Path, one: Window, tries: int, log: Path) -> Iterator[list[int]]:
    """Processes that take recipients, and log each that they got with one write."""
    pids = []
    for index in range(number):
        pid = os.fork()
        if not pid:
            try:
                counts = Counts(path)
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                chance = random.Random(index)
                for _ in range(tries):
                    taken = counts.take((one,))
                    if isinstance(taken, Taken):
                        if chance.random() < 0.1:
                            counts.give_back((one,), taken.buckets, 1)
                        else:
                            os.write(out, b"x")
            finally:
                os._exit(0)
        pids.append(pid)
    try:
        yield pids
    finally:
        for pid in pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def test_four_workers_together_take_exactly_the_limit(shared: Path, tmp_path: Path) -> None:
    one, log = window(25_000, 86_400, "four"), tmp_path / "log"
    with workers(4, shared, one, 10_000, log):
        pass
    assert log.stat().st_size == 25_000
    assert room(Counts(shared), one) == 0


def test_workers_that_are_killed_leave_no_room_that_was_not_there(shared: Path, tmp_path: Path) -> None:
    one, log = window(20_000, 86_400, "killed"), tmp_path / "log"
    for _ in range(12):
        with workers(4, shared, one, 10_000, log) as pids:
            time.sleep(0.05)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
    with workers(4, shared, one, 10_000, log):
        pass
    lost = 12 * 4  # at most one each, which was counted and not logged
    assert 20_000 - lost <= log.stat().st_size <= 20_000
    counts = Counts(shared)
    assert room(counts, one) == 0
    base = counts.slots._places[one.key]
    assert counts.slots.added_up(base) == counts.slots.words[base + module.TOTAL] == 20_000
