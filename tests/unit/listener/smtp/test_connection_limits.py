"""The limits on connections, in one process and in several."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.api.decision import Reply
from listener.server.counters import SharedCounters
from listener.smtp.connection_limits import ConnectionLimits, Counters, LocalCounters, Ticket
from listener.smtp.replies import FULL, FULL_FOR_ADDRESS


class Client:
    """A connection that keeps its ticket."""

    def __init__(self, ip: str = "192.0.2.1") -> None:
        self.ip = ip
        self.ticket: Ticket | None = None

    def keep(self, admitted: Ticket | Reply) -> Reply | None:
        if isinstance(admitted, Reply):
            return admitted
        self.ticket = admitted
        return None

    def enter(self, limits: ConnectionLimits) -> Reply | None:
        self.leave()
        return self.keep(limits.enter(self.ip))

    def hold(self, limits: ConnectionLimits) -> Reply | None:
        return self.keep(limits.hold())

    def leave(self) -> None:
        if self.ticket is not None:
            self.ticket.leave()


@pytest.fixture(params=["local", "shared"])
def counters(request: pytest.FixtureRequest) -> Counters:
    return LocalCounters() if request.param == "local" else SharedCounters(2).of(1)


def test_in_all(counters: Counters) -> None:
    limits = ConnectionLimits(counters, 3, 0)
    held = [Client(f"192.0.2.{number}") for number in range(3)]
    assert [one.enter(limits) for one in held] == [None] * 3
    late = Client("192.0.2.9")
    assert late.enter(limits) is FULL
    late.leave()
    held[0].leave()
    held[0].leave()
    assert late.enter(limits) is None
    assert Client().enter(limits) is FULL


def test_from_one_address(counters: Counters) -> None:
    limits = ConnectionLimits(counters, 0, 2)
    held = [Client() for _ in range(2)]
    assert [one.enter(limits) for one in held] == [None, None]
    assert Client().enter(limits) is FULL_FOR_ADDRESS
    assert Client("192.0.2.2").enter(limits) is None
    held[0].leave()
    assert Client().enter(limits) is None


def test_no_limits(counters: Counters) -> None:
    limits = ConnectionLimits(counters, 0, 0)
    assert all(Client().enter(limits) is None for _ in range(100))


def test_a_listener_with_limits_of_its_own(counters: Counters) -> None:
    """Connections at other listeners do not use them up, and count there as usual."""
    one = ConnectionLimits(counters, 2, 1, own_clients="one", own_addresses="one")
    others = ConnectionLimits(counters, 5, 2)
    crowd = [Client() for _ in range(2)]
    assert [each.enter(others) for each in crowd] == [None, None]
    first, second = Client(), Client("192.0.2.2")
    assert [first.enter(one), second.enter(one)] == [None, None]
    assert Client("192.0.2.3").enter(one) is FULL
    second.leave()
    assert Client().enter(one) is FULL_FOR_ADDRESS
    assert Client().hold(one) is None
    assert Client().hold(one) is FULL
    assert Client("192.0.2.4").enter(others) is None
    assert Client("192.0.2.5").enter(others) is FULL, "five in all"
    first.leave()
    assert Client("192.0.2.5").enter(others) is None


def test_connections_before_their_proxy_header_count_in_all_and_for_no_address(counters: Counters) -> None:
    """Connections behind a proxy that have not named their client yet."""
    limits = ConnectionLimits(counters, 3, 1)
    held = [Client("10.0.0.1") for _ in range(3)]
    assert [one.hold(limits) for one in held] == [None] * 3
    assert Client().hold(limits) is FULL
    held[0].ip = held[1].ip = "192.0.2.1"
    assert held[0].enter(limits) is None
    assert held[1].enter(limits) is FULL_FOR_ADDRESS
    assert Client().hold(limits) is None, "one was turned away"


def test_becoming_another(counters: Counters) -> None:
    """XCLIENT: the connection is counted once, under its new address."""
    limits = ConnectionLimits(counters, 2, 1)
    proxy, other = Client("10.0.0.1"), Client("192.0.2.1")
    assert proxy.enter(limits) is None
    assert other.enter(limits) is None
    proxy.ip = "192.0.2.2"
    assert proxy.enter(limits) is None
    assert Client("10.0.0.1").enter(limits) is FULL
    other.leave()
    assert Client("10.0.0.1").enter(limits) is None


@given(st.lists(st.tuples(st.integers(0, 2), st.ip_addresses(), st.sampled_from([1, -1])), max_size=60))
def test_several_workers_count_together(steps: list[tuple[int, Any, int]]) -> None:
    shared = SharedCounters(3)
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
    shared = SharedCounters(2)
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
    """No address is refused because of others, whatever the seed of the hash."""
    counters = SharedCounters(1).of(0)
    limits = ConnectionLimits(counters, 0, 2)
    clients = [Client(f"10.{number >> 8}.{number & 255}.7") for number in range(2000)]
    assert [one.enter(limits) for one in clients] == [None] * 2000
    for one in clients:
        one.leave()
    assert counters.add("10.0.0.7", 1) == (1, 1)
    assert counters.add("", 1) == (2, 0)


@pytest.mark.parametrize("shared", [False, True])
def test_a_network_of_ipv6_is_one_address(shared: bool) -> None:
    counters: Counters = SharedCounters(1).of(0) if shared else LocalCounters()
    limits = ConnectionLimits(counters, 0, 2)
    clients = [Client(f"2001:db8:0:7::{number}") for number in range(3)]
    assert [one.enter(limits) for one in clients] == [None, None, FULL_FOR_ADDRESS]
    assert Client("2001:db8:0:8::1").enter(limits) is None
    clients[0].leave()
    assert clients[2].enter(limits) is None
    each = ConnectionLimits(LocalCounters(), 0, 1, ipv6_prefix=128)
    assert [Client(one.ip).enter(each) for one in clients] == [None] * 3
