"""In-process delivery out of a bucket: when mails are run, and run again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.bucket.in_process import BucketDelivery, open_runner
from functions.config import DeliveryConfig
from functions.delivery.engine import Delivery, Output
from functions.delivery.events import DeliveryEvents
from functions.delivery.terms import Waits
from functions.errors import ConfigError, Permanent, Temporary
from tests.support.clouds.bucket_runner import Place, Scripted
from tests.support.net import wait_until

AT_ONCE = Waits(0.0, 0.0)


class Backlog(DeliveryEvents):
    def __init__(self) -> None:
        self.found: list[tuple[float | None, int, int]] = []

    def backlog(self, oldest: float | None, unfinished: int, dead: int) -> None:
        self.found.append((oldest, unfinished, dead))


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def start(place: Place) -> Iterator[Callable[..., BucketDelivery]]:
    made: list[BucketDelivery] = []

    def run(waits: Waits = AT_ONCE, *, sweeps: bool = False, **more: Any) -> BucketDelivery:
        made.append(BucketDelivery(place.runner, waits, clock=place.clock, **more))
        made[-1].start(sweeps=sweeps)
        return made[-1]

    yield run
    for each in made:
        assert each.stop(10) == 0


def finished(place: Place) -> None:
    wait_until(lambda: not place.below("spool/"), seconds=10, what="an empty spool")


def test_a_mail_of_many_notifications_is_delivered_once(
    place: Place, start: Callable[..., BucketDelivery]
) -> None:
    delivery = start()
    keys = [place.put()[0] for _ in range(30)]
    delivery.notify(keys + keys)
    finished(place)
    assert set(place.a.effects.values()) == set(place.b.effects.values()) == {1}
    assert len(place.a.effects) == 30


def test_what_fails_is_run_again(place: Place, start: Callable[..., BucketDelivery]) -> None:
    place.a.faults = [Temporary("not now"), Temporary("not yet", retry_after=0.01), None]
    delivery = start()
    delivery.notify([place.put()[0]])
    finished(place)
    assert place.a.calls == 3
    assert place.b.calls == 1, "one's failure does not repeat another's effect"


def test_a_wait_is_waited_for(place: Place, start: Callable[..., BucketDelivery]) -> None:
    place.a.faults = [Temporary("not now")]
    delivery = start(Waits(3600.0, 3600.0))
    first, _ = place.put()
    delivery.notify([first])
    wait_until(lambda: place.a.calls == 1, seconds=10, what="the first attempt")
    second, _ = place.put()
    delivery.notify([first, second])
    wait_until(lambda: place.below("spool/") == [first.removeprefix(place.prefix)], seconds=10, what="one")
    assert place.a.calls == 2, "the first mail's time has not come, whoever rings"


def test_a_start_takes_up_existing_mails(place: Place, start: Callable[..., BucketDelivery]) -> None:
    for _ in range(3):
        place.put()
    place.store.create(f"{place.prefix}spool/probe", b"", "text/plain")
    backlog = Backlog()
    start(sweeps=True, observer=backlog)
    wait_until(lambda: len(place.a.effects) == 3, seconds=10, what="all")
    wait_until(lambda: bool(backlog.found), seconds=10, what="the sweep's report")
    assert place.below("spool/") == ["spool/probe"]


def test_only_one_of_several_workers_sweeps(place: Place, start: Callable[..., BucketDelivery]) -> None:
    place.put()
    delivery = start()
    delivery.notify([place.put()[0]])
    wait_until(lambda: len(place.a.effects) == 1, seconds=10, what="the one that was rung for")


def test_a_parked_mail_rests(place: Place, start: Callable[..., BucketDelivery]) -> None:
    place.a.always = Permanent("never")
    delivery = start()
    key, _ = place.put()
    delivery.notify([key])
    wait_until(lambda: len(place.below("dead/")) == 2, seconds=10, what="the record and the mark")
    place.now += 61.0
    delivery.notify([key])
    other, _ = place.put()
    delivery.notify([other])
    wait_until(lambda: len(place.below("dead/")) == 4, seconds=10, what="the other one")
    assert place.a.calls == 2


def test_the_bucket_fails_for_a_while(place: Place, start: Callable[..., BucketDelivery]) -> None:
    broken = threading.Event()
    broken.set()
    place.store.fails = lambda verb, key: broken.is_set()
    delivery = start(Waits(0.01, 0.01), sweeps=True)
    broken.clear()
    key, _ = place.put()
    broken.set()
    delivery.notify([key])
    broken.clear()
    finished(place)
    assert list(place.a.effects.values()) == [1]


def test_other_outputs(place: Place, start: Callable[..., BucketDelivery]) -> None:
    delivery = start()
    other = Scripted()
    delivery.replace(Delivery({"in": [Output("c", "id-c", other)]}), AT_ONCE)
    delivery.notify([place.put()[0]])
    finished(place)
    assert (place.a.calls, other.calls) == (0, 1)


def test_a_stop_waits_for_runs_and_begins_none(place: Place, start: Callable[..., BucketDelivery]) -> None:
    entered, go = threading.Event(), threading.Event()

    class Slow(Scripted):
        def process(self, job: Any) -> None:
            entered.set()
            go.wait(10)
            super().process(job)

    slow = Slow()
    delivery = start()
    delivery.replace(Delivery({"in": [Output("slow", "id-slow", slow)]}), AT_ONCE)
    delivery.notify([place.put()[0]])
    assert entered.wait(10)
    stopped: list[int] = []
    stopping = threading.Thread(target=lambda: stopped.append(delivery.stop(10)))
    stopping.start()
    delivery.notify([place.put()[0]])
    go.set()
    stopping.join(10)
    assert stopped == [0]
    assert slow.calls == 1
    assert len(place.below("spool/")) == 1, "what is owed stays in the bucket"


def test_a_run_that_does_not_let_go_is_told_of(place: Place) -> None:
    entered, go = threading.Event(), threading.Event()

    class Hangs(Scripted):
        def process(self, job: Any) -> None:
            entered.set()
            go.wait(30)

    place.runner.replace(Delivery({"in": [Output("hangs", "id", Hangs())]}))
    delivery = BucketDelivery(place.runner, AT_ONCE, clock=place.clock)
    delivery.start(sweeps=False)
    delivery.notify([place.put()[0]])
    assert entered.wait(10)
    assert delivery.stop(0.01) == 1
    go.set()


def test_a_folder_is_no_bucket(tmp_path: Any) -> None:
    config = DeliveryConfig.model_validate({"flows": {}, "spool": "file://x"})
    with pytest.raises(ConfigError, match=r"file://x is not a bucket"):
        open_runner(config, Delivery({}), tmp_path, {}, DeliveryEvents())
