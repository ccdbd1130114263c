"""The cache, deadlines, and asking many questions at once."""

from __future__ import annotations

import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st

from listener.mailauth.dns.cache import FAILURE_TTL, MAX_NEGATIVE_TTL, MAX_TTL, Cache, cost
from listener.mailauth.dns.resolver import (
    Deadline,
    DnsAnswer,
    Outcome,
    Question,
    failed,
    resolve_all,
    resolve_one,
)
from listener.mailauth.dns.zone import MemoryResolver


def question(number: int) -> Question:
    return Question(f"n{number}.example", "TXT")


def found(ttl: float, size: int = 10) -> DnsAnswer:
    return DnsAnswer(Outcome.FOUND, (b"x" * size,), ttl)


def test_time_to_live() -> None:
    cache = Cache()
    cache.put(question(1), found(10), now=100)
    assert cache.get(question(1), now=109.9) == found(10)
    assert cache.get(question(1), now=110) is None
    assert len(cache) == cache.octets == 0


def test_nothing_is_kept_for_long() -> None:
    cache = Cache()
    for number, (answer, kept) in enumerate(
        [
            (found(1e9), MAX_TTL),
            (DnsAnswer(Outcome.EMPTY, ttl=1e9), MAX_NEGATIVE_TTL),
            (DnsAnswer(Outcome.ABSENT, ttl=60), 60),
            (failed("x"), FAILURE_TTL),
        ]
    ):
        cache.put(question(number), answer, now=0)
        assert cache.get(question(number), now=kept - 0.1) is answer
        assert cache.get(question(number), now=kept) is None


def test_it_holds_answers_while_it_returns_each_of_them() -> None:
    cache = Cache(entries=3)
    answers = [(question(number), found(60)) for number in range(3)]
    for asked, answer in answers:
        cache.put(asked, answer)
    assert cache.holds(answers)
    assert cache.holds([])
    assert not cache.holds([(question(0), found(60))])  # equal, but of another time
    assert not cache.holds([*answers, (question(9), found(60))])
    assert cache.holds(answers[:1])  # which is now the last used
    cache.put(question(3), found(60))
    assert cache.holds(answers[:1])
    assert not cache.holds(answers[1:2])
    late, early = time.monotonic() - 61, time.monotonic() - 59
    cache.put(question(3), answers[1][1], now=early)
    assert cache.holds([(question(3), answers[1][1])])
    cache.put(question(3), answers[1][1], now=late)
    assert not cache.holds([(question(3), answers[1][1])])


def test_what_is_not_kept() -> None:
    cache = Cache(octets=160_000)
    cache.put(question(1), found(0), now=0)
    cache.put(question(2), found(60, size=20_000), now=0)
    assert len(cache) == 0
    cache.put(question(3), found(60), now=0)
    cache.put(question(3), found(0), now=0)  # the newer answer counts
    assert len(cache) == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 400), st.integers(0, 5)), max_size=60))
def test_room_is_bounded(steps: list[tuple[int, int, int]]) -> None:
    cache = Cache(entries=8, octets=16 * 700)
    for now, (number, size, ttl) in enumerate(steps):
        cache.put(question(number), found(ttl, size), now=now)
        assert len(cache) <= 8
        assert cache.octets <= 16 * 700
        assert cache.octets == sum(entry[1] for entry in cache._entries.values())


def test_the_least_used_goes_first() -> None:
    cache = Cache(entries=2)
    for number in (1, 2):
        cache.put(question(number), found(60), now=0)
    cache.get(question(1), now=1)
    cache.put(question(3), found(60), now=2)
    assert [cache.get(question(n), now=3) is not None for n in (1, 2, 3)] == [True, False, True]
    assert cache.octets == 2 * cost(found(60))


class Slow:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.running = self.most = 0

    def known(self, question: Question) -> DnsAnswer | None:
        return None

    async def resolve(self, question: Question) -> DnsAnswer:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.seconds)
        self.running -= 1
        return found(1)


async def test_questions_go_out_side_by_side() -> None:
    slow = Slow(0.01)
    answers = await resolve_all(slow, [question(n % 5) for n in range(10)])
    assert (len(answers), slow.most) == (5, 5)


async def test_deadlines() -> None:
    loop = asyncio.get_running_loop()
    started = time.monotonic()
    late = Deadline(Slow(60), loop.time() + 0.05)
    assert await late.resolve(question(1)) == failed("no time left")
    assert await late.resolve(question(1)) == failed("no time left")
    assert time.monotonic() - started < 5
    assert (await Deadline(Slow(0), loop.time() + 5).resolve(question(1))).outcome is Outcome.FOUND


async def test_zones_in_memory() -> None:
    zone = {
        "A.example.": {
            "TXT": ["x", ["y", "z"]],
            "MX": [[10, "MX.example."], "20 mx2.example"],
            "PTR": ["B.example."],
        },
        "b.example": {"CNAME": ["a.example"]},
        "c.example": {"*": "SERVFAIL", "A": ["192.0.2.1"]},
        "d.example": {"TXT": "NXDOMAIN", "AAAA": ["2001:DB8::0"]},
        "loop.example": {"CNAME": ["loop.example"]},
    }
    resolver = MemoryResolver(zone)

    async def ask(name: str, type_: str) -> DnsAnswer:
        return await resolve_one(resolver, Question(name, type_))  # type: ignore[arg-type]

    assert (await ask("a.example", "TXT")).texts == (b"x", b"yz")
    assert (await ask("b.example", "TXT")).texts == (b"x", b"yz")
    assert (await ask("a.example", "MX")).records == ((10, "mx.example"), (20, "mx2.example"))
    assert (await ask("a.example", "PTR")).records == ("b.example",)
    assert (await ask("a.example", "A")).outcome is Outcome.EMPTY
    assert (await ask("c.example", "TXT")).failed
    assert (await ask("c.example", "A")).records == ("192.0.2.1",)
    assert (await ask("d.example", "TXT")).outcome is Outcome.ABSENT
    assert (await ask("d.example", "AAAA")).records == ("2001:db8::",)
    assert (await ask("e.example", "A")).outcome is Outcome.ABSENT
    assert (await ask("loop.example", "A")).failed
