"""How often an address may do something in a minute."""

from __future__ import annotations

from listener.smtp.rate_limit import MAX_COUNTED, PERIOD, RateLimit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_limit_is_about_any_minute() -> None:
    clock = Clock()
    limit = RateLimit(3, 64, clock)
    for _ in range(3):
        assert limit.take("192.0.2.1")
        clock.now += 10
    assert not limit.take("192.0.2.1")
    assert limit.take("192.0.2.2")
    clock.now = 100.0 + PERIOD
    assert limit.take("192.0.2.1"), "the first is a minute old"
    assert not limit.take("192.0.2.1")
    clock.now += 3 * PERIOD
    assert not limit.reached("192.0.2.1")
    assert not limit._counts
    assert not limit._events


def test_what_is_refused_does_not_count() -> None:
    clock = Clock()
    limit = RateLimit(1, 64, clock)
    assert limit.take("192.0.2.1")
    for _ in range(100):
        clock.now += 0.5
        assert not limit.take("192.0.2.1")
    clock.now += 10
    assert limit.take("192.0.2.1")


def test_networks_of_ipv6_count_as_one() -> None:
    limit, each = RateLimit(2, 64, Clock()), RateLimit(2, 128, Clock())
    taken = [limit.take(f"2001:db8::{number}") for number in range(4)]
    assert taken == [True, True, False, False]
    assert limit.take("2001:db8:0:1::1")
    assert all(each.take(f"2001:db8::{number}") for number in range(4))


def test_no_limit_and_exempt_addresses() -> None:
    none = RateLimit(None, 64, Clock())
    some = RateLimit(1, 64, Clock(), lambda ip: ip == "192.0.2.1")
    assert all(none.take("192.0.2.1") for _ in range(100))
    assert not none._events
    assert all(some.take("192.0.2.1") for _ in range(100))
    assert some.take("192.0.2.2")
    assert not some.take("192.0.2.2")


def test_memory_is_bounded() -> None:
    limit = RateLimit(2, 64, Clock())
    for number in range(MAX_COUNTED + 1000):
        assert limit.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(limit._events) == MAX_COUNTED
    assert len(limit._counts) == MAX_COUNTED
