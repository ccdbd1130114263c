"""Turns: which connection works in which turn of the event loop, and for how long."""

from __future__ import annotations

import asyncio
import time

from listener.smtp.connection.turns import SHARE, SLICE, Turns


class Busy:
    """A connection with `waiting` commands, each of which takes a while."""

    paused = False

    def __init__(self, turns: Turns, waiting: int, seconds: float) -> None:
        self.turns = turns
        self.waiting = waiting
        self.seconds = seconds
        self.worked: list[float] = []
        """How long it worked at a time."""

    def carry_out(self) -> bool:
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass
        self.waiting -= 1
        return True

    def run(self) -> None:
        began = time.perf_counter()
        self.turns.work(self, self.carry_out, self.run)
        self.worked.append(time.perf_counter() - began)


def test_few_commands_are_carried_out_at_once() -> None:
    async def scenario() -> None:
        turns = Turns(asyncio.get_running_loop())
        one = Busy(turns, 3, 0.0)
        assert turns.work(one, one.carry_out, one.run) is False
        assert one.waiting == 0

    asyncio.run(scenario())


def test_a_loop_with_many_busy_connections_goes_on() -> None:
    """Each finishes, none works for long at a time, and the event loop turns in between."""

    async def scenario() -> None:
        turns = Turns(asyncio.get_running_loop())
        crowd = [Busy(turns, 50, SLICE / 5) for _ in range(20)]
        for each in crowd:
            each.run()
        gaps, last = [], time.perf_counter()
        while any(each.waiting for each in crowd):
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
        assert len(gaps) > 60
        gaps.sort()
        assert gaps[len(gaps) // 2] < SHARE, "the queue gets half of it"
        assert all(sorted(each.worked)[len(each.worked) // 2] < SLICE * 3 for each in crowd)

    asyncio.run(scenario())


def test_connections_take_turns_in_order() -> None:
    async def scenario() -> None:
        turns = Turns(asyncio.get_running_loop())
        crowd = [Busy(turns, 30, SLICE / 3) for _ in range(3)]
        for each in crowd:
            each.run()
        while any(each.waiting for each in crowd):
            await asyncio.sleep(0)
            left = [each.waiting for each in crowd]
            assert max(left) - min(left) <= 10, left

    asyncio.run(scenario())


def test_those_that_begin_late_in_a_busy_turn_queue() -> None:
    async def scenario() -> None:
        turns = Turns(asyncio.get_running_loop())
        first, second = Busy(turns, 1, SHARE), Busy(turns, 1, 0.0)
        first.run()
        taken: list[bytes] = []
        assert not turns.take(taken.append, b"mail"), "not in this turn"
        second.run()
        assert second.waiting == 1, "not in this turn"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert second.waiting == 0
        assert not taken
        assert turns.take(taken.append, b"mail")
        assert taken == [b"mail"]

    asyncio.run(scenario())


def test_a_fault_of_one_connection_leaves_no_other_in_the_queue() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        faults: list[object] = []
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        turns = Turns(loop)
        first, faulty, last = Busy(turns, 1, SHARE), Busy(turns, 1, 0.0), Busy(turns, 1, 0.0)

        def fail() -> bool:
            raise ZeroDivisionError

        faulty.carry_out = fail  # type: ignore[method-assign]
        for each in (first, faulty, last):
            each.run()
        assert last.waiting == 1, "not in this turn"
        for _ in range(5):
            await asyncio.sleep(0)
        assert [type(fault) for fault in faults] == [ZeroDivisionError]
        assert last.waiting == 0

    asyncio.run(scenario())
