"""Who may be connected at once, in one process and in several."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.server.counters import SharedCounters
from listener.smtp.connection_limits import FULL, FULL_FOR_ADDRESS, Counters, Gate, LocalCounters


def client(ip: str = "192.0.2.1") -> Any:
    return SimpleNamespace(session=SimpleNamespace(ip=ip), admitted_as=None)


@pytest.fixture(params=["local", "shared"])
def counters(request: pytest.FixtureRequest) -> Counters:
    return LocalCounters() if request.param == "local" else SharedCounters.create(2).of(1)


def test_in_all(counters: Counters) -> None:
    gate = Gate(counters, 3, 0)
    held = [client(f"192.0.2.{number}") for number in range(3)]
    assert [gate.enter(one) for one in held] == [None] * 3
    late = client("192.0.2.9")
    assert gate.enter(late) is FULL
    gate.leave(late)
    gate.leave(held[0])
    gate.leave(held[0])
    assert gate.enter(late) is None
    assert gate.enter(client()) is FULL


def test_from_one_address(counters: Counters) -> None:
    gate = Gate(counters, 0, 2)
    held = [client() for _ in range(2)]
    assert [gate.enter(one) for one in held] == [None, None]
    assert gate.enter(client()) is FULL_FOR_ADDRESS
    assert gate.enter(client("192.0.2.2")) is None
    gate.leave(held[0])
    assert gate.enter(client()) is None


def test_no_limits(counters: Counters) -> None:
    gate = Gate(counters, 0, 0)
    assert all(gate.enter(client()) is None for _ in range(100))


def test_a_listener_with_limits_of_its_own(counters: Counters) -> None:
    """What comes in elsewhere does not use them up, and it counts elsewhere as any other does."""
    one = Gate(counters, 2, 1, own_clients="one", own_addresses="one")
    others = Gate(counters, 5, 2)
    crowd = [client() for _ in range(2)]
    assert [others.enter(each) for each in crowd] == [None, None]
    first, second = client(), client("192.0.2.2")
    assert [one.enter(first), one.enter(second)] == [None, None]
    assert one.enter(client("192.0.2.3")) is FULL
    one.leave(second)
    assert one.enter(client()) is FULL_FOR_ADDRESS
    assert one.hold(client()) is None
    assert one.hold(client()) is FULL
    assert others.enter(client("192.0.2.4")) is None
    assert others.enter(client("192.0.2.5")) is FULL, "five in all"
    one.leave(first)
    assert others.enter(client("192.0.2.5")) is None


def test_held_ones_count_in_all_and_for_nobody(counters: Counters) -> None:
    """Those behind a proxy that have not said yet whom they are."""
    gate = Gate(counters, 3, 1)
    held = [client("10.0.0.1") for _ in range(3)]
    assert [gate.hold(one) for one in held] == [None] * 3
    assert gate.hold(client()) is FULL
    held[0].session.ip = held[1].session.ip = "192.0.2.1"
    assert gate.enter(held[0]) is None
    assert gate.enter(held[1]) is FULL_FOR_ADDRESS
    assert gate.hold(client()) is None, "one was turned away"


def test_becoming_another(counters: Counters) -> None:
    """XCLIENT: the connection is counted once, under its new address."""
    gate = Gate(counters, 2, 1)
    proxy, other = client("10.0.0.1"), client("192.0.2.1")
    assert gate.enter(proxy) is None
    assert gate.enter(other) is None
    proxy.session.ip = "192.0.2.2"
    assert gate.enter(proxy) is None
    assert gate.enter(client("10.0.0.1")) is FULL
    gate.leave(other)
    assert gate.enter(client("10.0.0.1")) is None


@given(st.lists(st.tuples(st.integers(0, 2), st.ip_addresses(), st.sampled_from([1, -1])), max_size=60))
def test_several_workers_count_together(steps: list[tuple[int, Any, int]]) -> None:
    shared = SharedCounters.create(3)
    workers = [shared.of(index) for index in range(3)]
    plain = LocalCounters()
    held: dict[tuple[int, str], int] = {}
    for index, address, change in steps:
        key = index, str(address)
        if held.get(key, 0) + change < 0:
            continue
        held[key] = held.get(key, 0) + change
        total, count = workers[index].add(key[1], change)
        wanted_total, wanted = plain.add(key[1], change)
        assert total == wanted_total
        assert count >= wanted
    assert workers[0].add("x", 1)[0] == sum(held.values()) + 1


def test_across_processes_and_a_worker_that_died() -> None:
    shared = SharedCounters.create(2)
    mine = shared.of(0)
    pid = os.fork()
    if not pid:
        for _ in range(5):
            shared.of(1).add("192.0.2.1", 1)
        os._exit(0)
    os.waitpid(pid, 0)
    assert mine.add("192.0.2.1", 1) == (6, 6)
    shared.forget(1)
    assert mine.add("192.0.2.1", 1) == (2, 2)


def test_two_thousand_addresses_are_told_apart() -> None:
    """No address is refused for the sake of others, whatever the seed of the hash."""
    counters = SharedCounters.create(1).of(0)
    gate = Gate(counters, 0, 2)
    clients = [client(f"10.{number >> 8}.{number & 255}.7") for number in range(2000)]
    assert [gate.enter(one) for one in clients] == [None] * 2000
    for one in clients:
        gate.leave(one)
    assert counters.add("10.0.0.7", 1) == (1, 1)
    assert counters.add("", 1) == (2, 0)
