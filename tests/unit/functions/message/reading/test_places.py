"""Room for mails that are read whole."""

from __future__ import annotations

import threading

import pytest

from functions.message.reading.places import FOR_TEXT, SMALL, Places
from tests.support.net import wait_until


def test_mails_beyond_the_room_wait_in_their_order() -> None:
    places = Places(4 * SMALL)
    order: list[str] = []
    started: dict[str, threading.Event] = {}

    def read(name: str, size: int, until: threading.Event) -> None:
        started[name].set()
        with places.place(size):
            order.append(name)
            assert until.wait(30)

    def start(name: str, size: int, until: threading.Event) -> threading.Thread:
        started[name] = threading.Event()
        thread = threading.Thread(target=read, args=(name, size, until))
        thread.start()
        assert started[name].wait(30)
        return thread

    first, rest = threading.Event(), threading.Event()
    rest.set()
    threads = [start("a", 3 * SMALL, first)]
    wait_until(lambda: order == ["a"], seconds=30, what="a turn")
    threads.append(start("whole", 90 * SMALL, rest))
    wait_until(lambda: len(places._waiting) == 1, seconds=30, what="a turn")
    threads.append(start("c", 2 * SMALL, rest))
    wait_until(lambda: len(places._waiting) == 2, seconds=30, what="a turn")
    with places.place(SMALL):
        pass  # a small mail waits for none
    assert order == ["a"]
    first.set()
    for thread in threads:
        thread.join(30)
    assert order == ["a", "whole", "c"]


def test_what_a_reader_takes_for_a_text_counts() -> None:
    size, text = 4 * SMALL, SMALL
    taken = size + FOR_TEXT * text
    for room, at_once in ((2 * taken - 1, 1), (2 * taken, 2)):
        places = Places(room)
        inside: list[int] = []
        release = threading.Event()

        def read(
            places: Places = places, inside: list[int] = inside, release: threading.Event = release
        ) -> None:
            with places.place(size, text):
                inside.append(1)
                assert release.wait(30)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(
            lambda places=places, inside=inside, at_once=at_once: (
                len(inside) == at_once and len(places._waiting) == 3 - at_once
            ),
            seconds=30,
            what="the readers",
        )
        release.set()
        for thread in threads:
            thread.join(30)
        assert len(inside) == 3


def test_a_reader_gives_the_rest_of_its_place_back() -> None:
    places = Places(4 * SMALL)
    with places.place(4 * SMALL) as keep:
        keep(SMALL)
        with places.place(3 * SMALL):
            assert places._taken == 4 * SMALL
        keep(9 * SMALL)  # never more
        assert places._taken == SMALL
    assert places._taken == 0


def test_a_reader_that_dies_while_it_waits_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(4 * SMALL)
    with monkeypatch.context() as patched:

        def interrupted(*_: object) -> bool:
            raise KeyboardInterrupt

        patched.setattr(places._changed, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt), places.place(2 * SMALL):
            pass
    read = threading.Event()

    def reader() -> None:
        with places.place(90 * SMALL):
            read.set()

    threading.Thread(target=reader, daemon=True).start()
    assert read.wait(30)
