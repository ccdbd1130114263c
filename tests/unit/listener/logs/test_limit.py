"""How many log lines one client's address can cause."""

from __future__ import annotations

import logging

import pytest

from listener.logs.limit import MAX_COUNTED, PERIOD, LineLimit

log = logging.getLogger("smtp_relay.test")
KIND = "mail not taken"
MORE = "more lines of one kind were left out"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock, caplog: pytest.LogCaptureFixture) -> LineLimit:
    caplog.set_level(logging.INFO, "smtp_relay")
    return LineLimit(log, 3, 64, clock)


def about(ip: str = "192.0.2.1") -> dict[str, str]:
    return {"ip": ip}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_the_rest_of_a_minute_is_one_line(
    limit: LineLimit, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        limit.write(logging.INFO, KIND, about())
    assert lines(caplog) == [KIND] * 3
    clock.now += PERIOD - 1
    limit.tick()
    assert lines(caplog) == [KIND] * 3
    clock.now += 1
    limit.tick()
    assert lines(caplog) == [KIND] * 3 + [MORE]
    last = vars(caplog.records[-1])
    assert (last["ip"], last["kind"], last["times"]) == ("192.0.2.1", KIND, 7)
    limit.write(logging.INFO, KIND, about())
    assert lines(caplog)[-1] == KIND


def test_a_minute_that_ends_between_two_ticks(
    limit: LineLimit, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(4):
        limit.write(logging.INFO, KIND, about())
    clock.now += PERIOD
    limit.write(logging.INFO, KIND, about())
    assert lines(caplog) == [KIND, KIND, KIND, MORE, KIND]


def test_nothing_left_out_needs_no_line(
    limit: LineLimit, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        limit.write(logging.INFO, KIND, about())
    clock.now += PERIOD
    limit.tick()
    limit.end()
    assert lines(caplog) == [KIND] * 3


def test_addresses_and_kinds_count_apart_and_networks_of_ipv6_together(
    limit: LineLimit, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        limit.write(logging.INFO, KIND, about("192.0.2.1"))
        limit.write(logging.INFO, KIND, about("192.0.2.2"))
        limit.write(logging.WARNING, "no header: %s", about("192.0.2.1"), number)
        limit.write(logging.INFO, KIND, about(f"2001:db8::{number}"))
        limit.write(logging.INFO, KIND, about(f"2001:db8:0:1::{number}"))
    assert len(caplog.records) == 3 * 5
    limit.end()
    told = [vars(record) for record in caplog.records[15:]]
    assert [(one["ip"], one["kind"], one["levelname"]) for one in told] == [
        ("192.0.2.1", KIND, "INFO"),
        ("192.0.2.2", KIND, "INFO"),
        ("192.0.2.1", "no header", "WARNING"),
        ("2001:db8::/64", KIND, "INFO"),
        ("2001:db8:0:1::/64", KIND, "INFO"),
    ]


def test_no_limit(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtp_relay")
    limit = LineLimit(log, None, 64, clock)
    for _ in range(100):
        limit.write(logging.INFO, KIND, about())
    assert len(caplog.records) == 100
    for _ in range(2):
        limit.write(logging.INFO, "once", about(), most=1)
    assert lines(caplog).count("once") == 1


def test_any_number_of_addresses_takes_bounded_memory_and_no_count_is_lost(
    limit: LineLimit, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    many = MAX_COUNTED + 100
    for number in range(many):
        for _ in range(4):
            limit.write(logging.INFO, KIND, about(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert len(limit._counts) == MAX_COUNTED
    limit.end()
    assert sum(vars(record).get("times", 0) for record in caplog.records) == many
