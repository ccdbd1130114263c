"""Room for mails that are read whole."""

from __future__ import annotations

import threading

from functions.message.reading.places import SMALL, Places
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
