"""Outputs of one mail that wait each by itself, and mails that wait for an output without room."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from functions.delivery.engine import Delivery, Output
from functions.delivery.terms import Terms, Waits
from functions.errors import HeldBack, Temporary
from functions.local.layout import Part
from functions.local.messages import Item, Settings, SpoolReply
from functions.local.service import LocalDelivery
from functions.message.mail import BytesContent
from functions.processors.base import PLENTY, Job, Placed, Processor
from tests.support.mails.spooled import MAIL, envelope_of

LONG = Settings(first=600.0, longest=900.0)


class Sink(Processor):
    def __init__(self, fails: float = 0) -> None:
        self.fails = fails
        self.calls: list[float] = []
        self.done: list[str] = []

    def process(self, job: Job) -> Placed | None:
        self.calls.append(time.monotonic())
        if len(self.calls) <= self.fails:
            raise Temporary("down")
        self.done.append(job.mail.id)
        return None


class Closable(Sink):
    """Takes no mails while it is `closed`."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = True
        self.asked = 0

    @property
    def room(self) -> int:
        return 0 if self.closed else PLENTY

    def process(self, job: Job) -> Placed | None:
        self.asked += 1
        if self.closed:
            raise HeldBack("closed", retry_after=300.0)
        return super().process(job)


class Narrow(Sink):
    """Counts the mails that are inside at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def process(self, job: Job) -> Placed | None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.005)
        with self.lock:
            self.inside -= 1
        return super().process(job)


@asynccontextmanager
async def served(folder: Path, outputs: list[Output], settings: Settings) -> AsyncIterator[LocalDelivery]:
    local = LocalDelivery(Part(folder), Delivery({"in": outputs}), settings)
    local.start()

    async def ticks() -> None:
        while True:
            local.tick()
            await asyncio.sleep(0.02)

    ticking = asyncio.create_task(ticks())
    try:
        yield local
    finally:
        ticking.cancel()
        await local.stop(5)


async def send(local: LocalDelivery) -> str:
    answered: asyncio.Future[SpoolReply] = asyncio.get_running_loop().create_future()
    item = Item(envelope_of(), BytesContent(MAIL), answered.set_result)
    local.submit(item)
    assert (await answered).code == 250
    return item.envelope.id


async def until(count: int, things: list[str] | list[float]) -> None:
    async with asyncio.timeout(20):
        while len(things) < count:
            await asyncio.sleep(0.005)


async def test_an_output_with_short_waits_does_not_hasten_the_others(tmp_path: Path) -> None:
    quick, slow = Sink(fails=8), Sink(fails=100)
    outputs = [
        Output("slow", "slow", slow),
        Output("quick", "quick", quick, Terms(waits=Waits(0.01, 0.02))),
    ]
    async with served(tmp_path / "part-0", outputs, LONG) as local:
        sent = await send(local)
        await until(1, quick.done)
        assert quick.done == [sent]
        assert len(slow.calls) == 1


async def test_mails_that_found_no_room_are_tried_when_there_is_some(tmp_path: Path) -> None:
    """And not before: none is looked at meanwhile."""
    sink = Closable()
    async with served(tmp_path / "part-0", [Output("out", "out", sink)], LONG) as local:
        sent = {await send(local) for _ in range(100)}
        async with asyncio.timeout(20):
            while sink.asked < 100:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.3)
        assert sink.asked == 100
        sink.closed = False
        await until(100, sink.done)
    assert set(sink.done) == sent


async def test_an_output_gets_no_more_mails_at_a_time_than_its_concurrency(tmp_path: Path) -> None:
    sink = Narrow()
    outputs = [Output("out", "out", sink, Terms(concurrency=2))]
    async with served(tmp_path / "part-0", outputs, LONG) as local:
        sent = {await send(local) for _ in range(60)}
        await until(60, sink.done)
    assert set(sink.done) == sent
    assert sink.most == 2


@pytest.mark.parametrize("concurrency", [None, 1])
async def test_a_mail_that_is_held_is_given_up_at_its_end(tmp_path: Path, concurrency: int | None) -> None:
    """No output without room outlives `giveUpAfter`."""
    sink = Closable()
    terms = Terms(waits=Waits(0.05, 0.1), give_up_after=0.5, concurrency=concurrency)
    part = Part(tmp_path / "part-0")
    settings = Settings(first=0.05, longest=0.1)
    async with served(part.folder, [Output("out", "out", sink, terms)], settings) as local:
        await send(local)
        async with asyncio.timeout(20):
            while not _dead(part):
                await asyncio.sleep(0.02)
    assert sink.done == []


def _dead(part: Part) -> int:
    with part.visit() as db:
        return int(db.execute("SELECT count(*) FROM dead").fetchone()[0])
