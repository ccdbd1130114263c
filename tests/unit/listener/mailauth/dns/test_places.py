"""Places for queries: shares, turns, and what becomes of clients that give up."""

from __future__ import annotations

import asyncio

import pytest

from listener.api.network import network_of
from listener.mailauth.dns.places import QueryPlaces


async def take_all(places: QueryPlaces, client: str, count: int) -> list[asyncio.Task[None]]:
    """Ask for so many places at once; the tasks of those that wait."""
    tasks = [asyncio.create_task(places.acquire(client)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return [task for task in tasks if not task.done()]


async def stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_client_leaves_most_places_free() -> None:
    places = QueryPlaces(256)
    waiting = await take_all(places, "a", 500)
    assert len(waiting) == 500 - 29
    assert places.free > 0.8
    assert not await take_all(places, "b", 20)
    await stop(*waiting)


@pytest.mark.parametrize("clients", [8, 30])
async def test_many_clients_leave_places_free(clients: int) -> None:
    places = QueryPlaces(256)
    waiting = [task for n in range(clients) for task in await take_all(places, f"a{n}", 60)]
    assert places.free > 0
    assert not await take_all(places, "innocent", 1)
    await stop(*waiting)


async def test_a_free_place_goes_to_the_client_that_has_none() -> None:
    places = QueryPlaces(20)
    waiting: list[asyncio.Task[None]] = []
    clients = 0
    while places.free:
        waiting += await take_all(places, f"a{clients}", 60)
        clients += 1
    assert clients > 5
    (late,) = await take_all(places, "innocent", 1)
    places.release("a0")  # it has two more, and waits for others
    async with asyncio.timeout(5):
        await late
    assert places.free == 0
    await stop(*waiting)


async def test_clients_that_wait_take_turns() -> None:
    places = QueryPlaces(1)
    await places.acquire("first")
    order: list[str] = []

    async def use(client: str) -> None:
        await places.acquire(client)
        order.append(client)
        places.release(client)

    tasks = [asyncio.create_task(use(client)) for client in ["a"] * 50 + ["b"] * 2 + ["c"]]
    await asyncio.sleep(0)
    places.release("first")
    await asyncio.gather(*tasks)
    assert order[:5] == ["a", "b", "c", "a", "b"]
    assert places.free == 1


async def test_a_place_that_comes_to_a_client_that_gives_up_goes_on() -> None:
    places = QueryPlaces(1)
    await places.acquire("first")
    (gone,) = await take_all(places, "a", 1)
    (next_one,) = await take_all(places, "b", 1)
    places.release("first")  # to `a`, which is cancelled before it runs
    await stop(gone)
    await next_one
    places.release("b")
    assert places.free == 1


async def test_a_place_goes_on_when_the_client_in_turn_gives_up_in_the_same_moment() -> None:
    places = QueryPlaces(1)
    await places.acquire("first")
    (gone,) = await take_all(places, "a", 1)
    (next_one,) = await take_all(places, "b", 1)
    gone.cancel()  # its task runs only after the release
    places.release("first")
    await next_one
    await stop(gone)
    places.release("b")
    assert places.free == 1
    assert not places._waiting


async def test_nothing_is_kept_of_clients_that_gave_up() -> None:
    places = QueryPlaces(1)
    await places.acquire("first")
    await stop(*await take_all(places, "a", 100))
    places.release("first")
    assert places.free == 1
    assert not places._waiting
    assert not places._held


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "192.0.2.1", False),
    ],
)
def test_what_counts_as_one_client(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) == same
