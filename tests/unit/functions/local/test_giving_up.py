"""Giving up takes two sources. In a folder the second one is this process's own attempts: no wall clock
gives a mail up, whatever it is set to, and none delays an attempt."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from functions.delivery.engine import Delivery, Output
from functions.errors import Temporary
from functions.local.layout import Part
from functions.local.messages import Item, Settings, SpoolReply
from functions.local.service import LocalDelivery
from functions.message.mail import BytesContent
from functions.processors.base import Job, Placed, Processor
from tests.support.mails.spooled import MAIL, envelope_of

DAYS = 4 * 86_400.0
GIVE_UP = 3 * 86_400.0
FAST = Settings(first=0.02, longest=0.04)


class Clock:
    """The wall clock, which can be set."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._time = time.time

    def __call__(self) -> float:
        return self._time() + self.offset


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "time", made)
    return made


class Failing(Processor):
    """Fails so many times, then works. `calls` are the moments of its attempts."""

    def __init__(self, times: float = float("inf")) -> None:
        self.times = times
        self.calls: list[float] = []
        self.mails: list[str] = []

    def process(self, job: Job) -> Placed | None:
        self.calls.append(time.monotonic())
        if len(self.calls) <= self.times:
            raise Temporary("down", enhanced="4.4.1")
        self.mails.append(job.mail.id)
        return None


class QuickFailing(Failing):
    quick = True


class Place:
    def __init__(self, folder: Path) -> None:
        self.part = Part(folder)

    @asynccontextmanager
    async def served(
        self, sink: Processor, *, flow: str = "in", give_up: float = GIVE_UP, settings: Settings = FAST
    ) -> AsyncIterator[LocalDelivery]:
        delivery = Delivery({flow: [Output("out", "identity", sink)]}, give_up_after=give_up)
        local = LocalDelivery(self.part, delivery, settings)
        local.start()
        try:
            yield local
        finally:
            await local.stop(5)

    async def send(self, local: LocalDelivery, age: float = 0.0) -> str:
        answered: asyncio.Future[SpoolReply] = asyncio.get_running_loop().create_future()
        item = Item(envelope_of(age=age), BytesContent(MAIL), answered.set_result)
        local.submit(item)
        assert (await answered).code == 250
        return item.envelope.id

    def count(self, what: str) -> int:
        with closing(sqlite3.connect(self.part.database)) as db:
            return int(db.execute(f"SELECT count(*) FROM {what}").fetchone()[0])

    async def until(self, sink: Failing, calls: int = 0, *, dead: int = 0, left: int | None = None) -> None:
        async with asyncio.timeout(15):
            while (
                len(sink.calls) < calls
                or self.count("dead") < dead
                or (left is not None and self.count("mail") > left)
            ):
                await asyncio.sleep(0.005)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "part-0")


@pytest.mark.parametrize("kind", [Failing, QuickFailing])
@pytest.mark.parametrize("days", [4, 4_000, -4])
async def test_a_clock_that_is_wrong_for_a_while_gives_nothing_up(
    place: Place, clock: Clock, days: int, kind: type[Failing]
) -> None:
    """However many attempts were made before it and meanwhile."""
    sink = kind()
    async with place.served(sink) as local:
        sent = {await place.send(local) for _ in range(3)}
        await place.until(sink, 30)
        clock.offset = days * 86_400.0
        sent.add(await place.send(local))
        await place.until(sink, len(sink.calls) + 60)
        assert place.count("dead") == 0
        clock.offset = 0.0
        sink.times = len(sink.calls)
        await place.until(sink, left=0)
    assert set(sink.mails) == sent
    assert place.count("dead") == 0


async def test_a_start_under_a_wrong_clock_gives_nothing_up(place: Place, clock: Clock) -> None:
    """An NTP client sets it right some seconds later."""
    sink = Failing()
    async with place.served(sink) as local:
        sent = await place.send(local)
        await place.until(sink, 8)
    clock.offset = DAYS
    async with place.served(sink):
        await place.until(sink, len(sink.calls) + 40)
        assert place.count("dead") == 0
        clock.offset = 0.0
        sink.times = len(sink.calls)
        await place.until(sink, left=0)
    assert sink.mails == [sent]


@pytest.mark.parametrize("failures", [0, 1, 4])
async def test_a_server_that_slept_a_weekend_tries_first(place: Place, clock: Clock, failures: int) -> None:
    sink = Failing()
    async with place.served(sink) as local:
        sent = await place.send(local)
        await place.until(sink, 3)
    clock.offset = DAYS
    sink = Failing(failures)
    async with place.served(sink):
        await place.until(sink, left=0)
    assert sink.mails == [sent]
    assert place.count("dead") == 0


@pytest.mark.parametrize("age", [0.0, DAYS])
async def test_what_fails_for_too_long_is_given_up_after_five_attempts_of_this_process(
    place: Place, age: float
) -> None:
    sink = Failing()
    async with place.served(sink, give_up=0.3) as local:
        await place.send(local, age)
        await place.until(sink, 3)
    tried = len(sink.calls)
    async with place.served(sink, give_up=0.3):
        await place.until(sink, dead=1)
    mine = sink.calls[tried:]
    assert len(mine) >= 5
    assert mine[-1] - mine[0] >= 0.3
    assert place.count("mail WHERE parked = 1") == 1


async def test_a_mail_that_came_under_a_clock_years_ahead_is_given_up_all_the_same(
    place: Place, clock: Clock
) -> None:
    sink = Failing()
    clock.offset = 20 * 365 * 86_400.0
    async with place.served(sink, give_up=0.3) as local:
        await place.send(local)
        clock.offset = 0.0
        await place.until(sink, dead=1)
    assert len(sink.calls) >= 5


async def test_a_flow_that_is_not_known_has_its_hour_by_two_witnesses(place: Place, clock: Clock) -> None:
    async with place.served(Failing(), flow="other") as local:
        await place.send(local)
        clock.offset = DAYS
        await asyncio.sleep(0.5)
        assert place.count("dead") == 0
        assert place.count("mail WHERE attempts > 5") == 1


@pytest.mark.parametrize("days", [-4, -4_000, 4])
async def test_a_clock_that_is_set_while_an_attempt_is_written_down_delays_none(
    place: Place, clock: Clock, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the commit, which sets the next attempt, and its fsync."""
    sink = Failing()
    async with place.served(sink) as local:
        await place.send(local)
        sync = local._commits.store.sync

        def set_then_sync(then: object) -> None:
            clock.offset += days * 86_400.0
            sync(then)  # type: ignore[arg-type]

        monkeypatch.setattr(local._commits.store, "sync", set_then_sync)
        await place.until(sink, len(sink.calls) + 8)


async def test_a_replay_by_a_process_with_another_clock_is_delivered_now(place: Place) -> None:
    sink = Failing()
    async with place.served(sink, give_up=0.1) as local:
        sent = await place.send(local)
        await place.until(sink, dead=1)
        sink.times = 0
        with closing(sqlite3.connect(place.part.database, isolation_level=None)) as db:
            db.execute("DELETE FROM dead")
            db.execute("DELETE FROM settled")
            db.execute("UPDATE mail SET parked = 0, attempts = 0, next = ?", (time.time() + DAYS,))
        async with asyncio.timeout(10):
            while place.count("mail"):
                local.tick()
                await asyncio.sleep(0.02)
    assert sink.mails == [sent]
