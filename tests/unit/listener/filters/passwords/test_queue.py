"""Whose password is checked next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from listener.filters.passwords.queue import FORGOTTEN_AFTER, MAX_REMEMBERED, CheckQueue, Failures

THREADS = 2


class Bench:
    """A queue whose checks run until they are let go, in the order in which they began."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(THREADS)
        self.queue = CheckQueue(lambda: self.pool, THREADS)
        self.begun: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        self.tasks: dict[str, asyncio.Task[bool]] = {}

    def ask(
        self, name: str, ip: str, *, attempts: int = 0, username: str = "bob", right: bool = False
    ) -> None:
        gate = self.gates[name] = threading.Event()

        def work() -> bool:
            self.begun.append(name)
            assert gate.wait(20)
            return right

        self.tasks[name] = asyncio.ensure_future(self.queue.run(ip, username, attempts, work))

    async def until(self, *names: str) -> None:
        """Exactly these have begun."""
        async with asyncio.timeout(20):
            while len(self.begun) < len(names):
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert self.begun == list(names)

    async def let_go(self, name: str) -> bool:
        self.gates[name].set()
        return await self.tasks[name]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    for gate in made.gates.values():
        gate.set()
    await asyncio.gather(*made.tasks.values(), return_exceptions=True)
    made.pool.shutdown()


async def test_one_check_is_in_hand_for_an_address(bench: Bench) -> None:
    for number in range(5):
        bench.ask(f"a{number}", "192.0.2.1", attempts=number)
    await bench.until("a0")
    bench.ask("b", "192.0.2.2", right=True)
    await bench.until("a0", "b")
    assert await bench.let_go("b") is True
    await bench.until("a0", "b")
    assert await bench.let_go("a0") is False
    await bench.until("a0", "b", "a1")


async def test_a_network_of_ipv6_is_one_address(bench: Bench) -> None:
    bench.ask("a", "2001:db8:0:1::1")
    bench.ask("same", "2001:db8:0:1:ffff::2")
    await bench.until("a")
    bench.ask("other", "2001:db8:0:2::1")
    await bench.until("a", "other")


async def test_addresses_that_failed_less_go_first(bench: Bench) -> None:
    for number, ip in enumerate(["192.0.2.1"] * 4 + ["192.0.2.2"]):
        bench.ask(f"failed {number}", ip)
        bench.gates[f"failed {number}"].set()
        await bench.tasks[f"failed {number}"]
    del bench.begun[:]
    bench.ask("x", "198.51.100.1")
    bench.ask("y", "198.51.100.2")
    await bench.until("x", "y")
    bench.ask("four", "192.0.2.1")
    bench.ask("one", "192.0.2.2")
    bench.ask("none", "192.0.2.3")
    await bench.let_go("x")
    await bench.until("x", "y", "none")
    await bench.let_go("y")
    await bench.until("x", "y", "none", "one")
    await bench.let_go("one")
    await bench.until("x", "y", "none", "one", "four")


async def test_first_attempts_go_before_repeated_ones_and_of_those_the_latest(bench: Bench) -> None:
    bench.ask("running", "192.0.2.1")
    await bench.until("running")
    bench.ask("third", "192.0.2.1", attempts=2)
    bench.ask("first", "192.0.2.1")
    bench.ask("latest", "192.0.2.1")
    bench.ask("second", "192.0.2.1", attempts=1)
    order = ["running", "latest", "first", "second", "third"]
    for began, name in enumerate(order, 1):
        await bench.until(*order[:began])
        await bench.let_go(name)


async def test_a_user_that_is_guessed_goes_after_others_of_its_address(bench: Bench) -> None:
    bench.ask("guess", "192.0.2.1", username="root")
    await bench.let_go("guess")
    bench.ask("running", "192.0.2.1", username="ann")
    await bench.until("guess", "running")
    bench.ask("bob", "192.0.2.1", username="bob")
    bench.ask("root", "192.0.2.1", username="root")
    await bench.let_go("running")
    await bench.until("guess", "running", "bob")


async def test_one_that_is_cancelled_while_it_waits_never_runs(bench: Bench) -> None:
    bench.ask("running", "192.0.2.1")
    bench.ask("gone", "192.0.2.1", attempts=1)
    bench.ask("last", "192.0.2.1", attempts=2)
    await bench.until("running")
    bench.tasks["gone"].cancel()
    await asyncio.sleep(0)
    await bench.let_go("running")
    await bench.until("running", "last")
    with pytest.raises(asyncio.CancelledError):
        await bench.tasks["gone"]


async def test_one_that_is_cancelled_while_it_runs_keeps_its_place_until_it_ends(bench: Bench) -> None:
    bench.ask("running", "192.0.2.1")
    await bench.until("running")
    bench.tasks["running"].cancel()
    bench.ask("next", "192.0.2.1")
    await asyncio.sleep(0.05)
    assert bench.begun == ["running"]
    bench.gates["running"].set()
    await bench.until("running", "next")


async def test_a_fault_is_the_caller_s_and_the_queue_goes_on(bench: Bench) -> None:
    def broken() -> bool:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        await bench.queue.run("192.0.2.1", "bob", 0, broken)
    bench.ask("next", "192.0.2.1", right=True)
    assert await bench.let_go("next") is True


def test_failures_are_forgotten_and_bounded() -> None:
    now = 0.0
    failures = Failures(lambda: now)
    for _ in range(5):
        failures.add("a")
    assert (failures.of("a"), failures.of("b")) == (3, 0)
    now += FORGOTTEN_AFTER
    assert failures.of("a") == 0
    for number in range(MAX_REMEMBERED + 10):
        failures.add(number)
    assert (failures.of("a"), failures.of(9), failures.of(10)) == (0, 0, 1)
    assert len(failures._counts) == MAX_REMEMBERED
