"""What watchers are told, and what becomes of slow ones."""

from __future__ import annotations

import asyncio

import pytest

from listener.inbox.events import MOST, WATCHERS, Event, Hub, Watcher


async def told(watcher: Watcher) -> list[Event]:
    """The events but the totals, which come by time."""
    return [event for event in await watcher.next(10) if event.kind != "stats"]


async def test_one_look_takes_all_that_happened() -> None:
    hub = Hub()
    with hub.watch(lambda _: True) as watcher:
        hub.publish(Event("new", "a", "1"))
        hub.publish(Event("new", "a", "2"), Event("new", "b", "3"))
        await asyncio.sleep(0)
        assert [event.mail for event in await told(watcher)] == ["1", "2", "3"]


async def test_a_watcher_that_is_slow_is_told_to_read_the_list_again() -> None:
    hub = Hub()
    with hub.watch(lambda _: True) as watcher:
        for number in range(3):
            hub.publish(*(Event("new", "a", f"{number}.{each}") for each in range(MOST)))
        await asyncio.sleep(0)
        (event,) = await told(watcher)
        assert (event.kind, event.inbox, event.place) == ("prune", None, 3 * MOST)
        hub.publish(Event("new", "a", "last"))
        await asyncio.sleep(0)
        assert [event.mail for event in await told(watcher)] == ["last"]


async def test_places_count_the_inboxes_that_the_watcher_sees_alone() -> None:
    hub = Hub()
    with hub.watch(lambda name: name == "a") as first:
        hub.publish(Event("new", "a", "1"), Event("new", "b", "2"), Event("new", "a", "3"))
        await asyncio.sleep(0)
        assert [(event.mail, event.place) for event in await told(first)] == [("1", 1), ("3", 2)]
    hub.publish(Event("new", "b", "4"))
    await asyncio.sleep(0)
    with hub.watch(lambda name: name == "a") as again:
        assert (again.run, again.place) == (first.run, 2)  # it missed nothing
    with Hub().watch(lambda _: True) as other:
        assert other.run != first.run


async def test_watching_ends_with_the_server() -> None:
    hub = Hub()
    with hub.watch(lambda _: True) as watcher:
        with pytest.raises(TimeoutError):
            await watcher.next(0.01)
        hub.close()
        assert await watcher.next(10) == []
        assert await watcher.next(10) == []
    with pytest.raises(BlockingIOError), hub.watch(lambda _: True):
        pass


async def test_there_are_no_more_watchers_than_the_bound() -> None:
    hub = Hub()
    watches = [hub.watch(lambda _: True) for _ in range(WATCHERS)]
    for each in watches:
        each.__enter__()
    with pytest.raises(BlockingIOError), hub.watch(lambda _: True):
        pass
    watches[0].__exit__(None, None, None)
    with hub.watch(lambda _: True):
        pass
