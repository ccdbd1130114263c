"""The production resolver against a name server on loopback that misbehaves in many ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from listener.mailauth.dns.client import DnsResolver, SharedResolver
from listener.mailauth.dns.resolver import Outcome, Question
from tests.support.net import HOST
from tests.support.servers.dns_server import DnsServer


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as running:
        yield running


@pytest.fixture
async def resolver(server: DnsServer) -> AsyncIterator[DnsResolver]:
    made = DnsResolver([HOST], server.port, timeout=0.5)
    yield made
    await made.close()


TXT = Question("a.example", "TXT")


async def test_records(server: DnsServer, resolver: DnsResolver) -> None:
    server.zone = {
        "a.example": {
            "TXT": ["one", ["two ", "parts"], "ü" * 200],
            "A": ["192.0.2.1"],
            "AAAA": ["2001:DB8:0::1"],
            "MX": [[10, "MX.a.example."], [0, "."]],
            "PTR": ["B.example"],
        },
        "alias.example": {"CNAME": ["Other.example"]},
        "other.example": {"CNAME": ["a.example"]},
    }
    records = {
        "TXT": (b"one", b"two parts", ("ü" * 200).encode()),
        "A": ("192.0.2.1",),
        "AAAA": ("2001:db8::1",),
        "MX": ((10, "mx.a.example"), (0, "")),
        "PTR": ("b.example",),
    }
    for type_, expected in records.items():
        for name in ("a.example", "alias.example"):
            answer = await resolver.resolve(Question(name, type_))  # type: ignore[arg-type]
            assert answer.outcome is Outcome.FOUND
            assert sorted(answer.records) == sorted(expected)  # type: ignore[type-var]


async def test_absences(server: DnsServer, resolver: DnsResolver) -> None:
    server.zone = {"a.example": {"A": ["192.0.2.1"]}}
    assert (await resolver.resolve(TXT)).outcome is Outcome.EMPTY
    assert (await resolver.resolve(Question("b.example", "TXT"))).outcome is Outcome.ABSENT


@pytest.mark.parametrize("behaviour", ["SERVFAIL", "REFUSED", "TIMEOUT", "LATE", "LIE", "GARBAGE", "EMPTY"])
async def test_failures_are_temporary_and_bounded(
    server: DnsServer, resolver: DnsResolver, behaviour: str
) -> None:
    server.zone = {"a.example": {"*": behaviour}}
    started = time.monotonic()
    answer = await resolver.resolve(TXT)
    assert (answer.outcome, answer.records) == (Outcome.FAILED, ())
    assert answer.reason
    assert time.monotonic() - started < 2


async def test_alias_loops(server: DnsServer, resolver: DnsResolver) -> None:
    server.zone = {"a.example": {"CNAME": ["b.example"]}, "b.example": {"CNAME": ["a.example"]}}
    assert (await resolver.resolve(TXT)).failed


async def test_no_server_listens() -> None:
    with DnsServer() as gone:
        port = gone.port
    resolver = DnsResolver([HOST], port, timeout=0.3)
    started = time.monotonic()
    assert (await resolver.resolve(TXT)).failed
    assert time.monotonic() - started < 2


async def test_large_answers_come_over_tcp(server: DnsServer, resolver: DnsResolver) -> None:
    server.zone = {"a.example": {"TXT": ["x" * 255 * 20]}, "b.example": {"TXT": ["y" * 900]}}
    assert (await resolver.resolve(TXT)).texts == (b"x" * 255 * 20,)
    assert [transport for _, _, transport in server.queries] == ["udp", "tcp"]
    await resolver.resolve(Question("b.example", "TXT"))
    assert server.queries[-1] == ("b.example", "TXT", "udp")  # EDNS


async def test_64_kb(server: DnsServer) -> None:
    server.zone = {
        "a.example": {"TXT": [f"{n:03}" + "x" * 250 for n in range(240)]},
        "b.example": {"TXT": ["x" * 64_000]},
        "d.example": {"TXT": [f"{n}" for n in range(600)]},
    }
    resolver = DnsResolver([HOST], server.port, timeout=5)
    assert len((await resolver.resolve(TXT)).records) == 100
    assert len((await resolver.resolve(Question("b.example", "TXT"))).texts[0]) == 64_000
    assert (await resolver.resolve(Question("d.example", "TXT"))).failed
    await resolver.close()


@pytest.mark.parametrize(
    "name", ["a..example", "a" * 64 + ".example", ".".join(["a" * 60] * 5), "ä.example", "", "."]
)
async def test_names_that_dns_cannot_hold(server: DnsServer, resolver: DnsResolver, name: str) -> None:
    answer = await resolver.resolve(Question(name, "TXT"))
    assert answer.outcome in (Outcome.ABSENT, Outcome.EMPTY)


async def test_a_backslash_is_a_byte(server: DnsServer, resolver: DnsResolver) -> None:
    server.zone = {"b.example": {"TXT": ["wrong"]}}
    assert (await resolver.resolve(Question("a\\046b.example", "TXT"))).outcome is Outcome.ABSENT
    assert server.queries[-1][0] == "a\\046b.example"


async def test_answers_are_kept_for_their_time(server: DnsServer, resolver: DnsResolver) -> None:
    server.ttl = 60
    server.zone = {"a.example": {"TXT": ["x"]}}
    for _ in range(3):
        await resolver.resolve(TXT)
        await resolver.resolve(Question("b.example", "TXT"))
    assert len(server.queries) == 2
    assert resolver.known(TXT) is not None
    server.ttl = 0
    await resolver.resolve(Question("a.example", "A"))
    await resolver.resolve(Question("a.example", "A"))
    assert len(server.queries) == 4


ABSENCES = pytest.mark.parametrize(
    "question",
    [
        Question("absent.example", "TXT"),
        Question("a.example", "TXT"),
        Question("alias.example", "TXT"),
        Question("dangling.example", "TXT"),
    ],
    ids=["no such name", "no data", "alias of a name without data", "alias of no name"],
)


def with_absences(server: DnsServer) -> None:
    server.ttl = 600
    server.zone = {
        "a.example": {"A": ["192.0.2.1"]},
        "alias.example": {"CNAME": ["a.example"]},
        "dangling.example": {"CNAME": ["absent.example"]},
    }


@ABSENCES
@pytest.mark.parametrize("soa", [None, "other.test.", "deeper.absent.example."])
async def test_an_absence_without_the_zone_s_soa_is_not_kept(
    server: DnsServer, resolver: DnsResolver, question: Question, soa: str | None
) -> None:
    """RFC 2308 section 5: the answer does not say how long it holds."""
    with_absences(server)
    server.soa = soa
    for asked in (1, 2):
        assert (await resolver.resolve(question)).outcome in (Outcome.ABSENT, Outcome.EMPTY)
        assert len(server.queries) == asked
        assert resolver.known(question) is None
    server.zone = {question.name: {"TXT": ["new"]}}
    assert (await resolver.resolve(question)).texts == (b"new",)


@ABSENCES
@pytest.mark.parametrize(("ttl", "minimum", "kept"), [(600, 7, 7), (7, 600, 7), (900, 900, 300), (60, 0, 0)])
async def test_an_absence_is_kept_for_the_shorter_of_the_soa_s_times(
    server: DnsServer, resolver: DnsResolver, question: Question, ttl: int, minimum: int, kept: int
) -> None:
    """RFC 2308 section 5: the lesser of the SOA record's own TTL and its MINIMUM."""
    with_absences(server)
    server.ttl, server.minimum, server.soa = ttl, minimum, "example."
    before = time.monotonic()
    await resolver.resolve(question)
    after = time.monotonic()
    assert (resolver.cache.get(question, now=before + kept - 0.1) is None) == (kept == 0)
    assert resolver.cache.get(question, now=after + kept + 0.1) is None


async def test_one_query_for_all_concurrent_questions(server: DnsServer, resolver: DnsResolver) -> None:
    server.zone = {"a.example": {"TXT": ["x"]}}
    answers = await asyncio.gather(*(resolver.resolve(TXT) for _ in range(20)))
    assert len(server.queries) == 1
    assert {answer.texts for answer in answers} == {(b"x",)}


async def test_giving_up_leaves_others_their_answer(server: DnsServer, resolver: DnsResolver) -> None:
    server.zone = {"a.example": {"TXT": ["x"]}}
    impatient = asyncio.create_task(resolver.resolve(TXT))
    patient = asyncio.create_task(resolver.resolve(TXT))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).texts == (b"x",)
    assert impatient.cancelled()


async def test_a_dead_server_is_not_asked_again_at_once(server: DnsServer, resolver: DnsResolver) -> None:
    """RFC 9520 section 3.2."""
    server.zone = {"a.example": {"*": "SERVFAIL"}}
    await resolver.resolve(TXT)
    asked = len(server.queries)
    assert (await resolver.resolve(TXT)).failed
    assert len(server.queries) == asked


async def test_the_next_server_is_asked(server: DnsServer) -> None:
    server.zone = {"a.example": {"TXT": ["x"]}}
    resolver = DnsResolver(["127.0.0.254", HOST], server.port, timeout=2)
    assert (await resolver.resolve(TXT)).texts == (b"x",)
    await resolver.close()


async def test_one_resolver_for_all_with_the_same_servers() -> None:
    a, b, other = (
        SharedResolver([HOST], 5353, 1.0),
        SharedResolver([HOST], 5353, 1.0),
        SharedResolver([HOST], 5354, 1.0),
    )
    first = a.acquire()
    assert b.acquire() is first
    third: Any = other.acquire()
    assert third is not first
    await a.release()
    assert a.acquire() is first
    for each in (a, b, other):
        await each.release()
    assert a.acquire() is not first
    await a.release()


async def test_closing_ends_running_work(server: DnsServer) -> None:
    server.zone = {"a.example": {"*": "TIMEOUT"}}
    resolver = DnsResolver([HOST], server.port, timeout=30)
    waiting = asyncio.create_task(resolver.resolve(TXT))
    await asyncio.sleep(0.05)
    await resolver.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_question_never_waits_behind_those_of_another_client(server: DnsServer) -> None:
    """The first client asks the second one's question too, behind more silent ones than it has places."""
    server.zone = {"a.example": {"TXT": ["x"]}}
    server.silent = "silent.example"
    resolver = DnsResolver([HOST], server.port, timeout=30)
    greedy = resolver.for_client("192.0.2.1")
    questions = [Question(f"n{n}.silent.example", "TXT") for n in range(300)]
    waiting = [asyncio.create_task(greedy.resolve(question)) for question in [*questions, TXT]]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        answer = await resolver.for_client("192.0.2.2").resolve(TXT)
    assert answer.texts == (b"x",)
    assert len({name for name, _, _ in server.queries}) < 60
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await resolver.close()


async def test_silent_servers_hold_places_for_less_time_while_places_are_short(server: DnsServer) -> None:
    server.silent = "silent.example"
    resolver = DnsResolver([HOST], server.port, timeout=10)
    clients = [resolver.for_client(f"192.0.2.{n}") for n in range(200)]
    started = time.monotonic()
    waiting = [
        asyncio.create_task(client.resolve(Question(f"q{n}.c{number}.silent.example", "TXT")))
        for number, client in enumerate(clients)
        for n in range(3)
    ]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert time.monotonic() - started < 5
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await resolver.close()
