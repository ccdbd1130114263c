"""Receipts that cannot be written after their effect."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from functions.delivery.engine import Delivery, Output
from functions.errors import Temporary
from functions.local.layout import Part
from functions.local.messages import Item, Progress, Settings, SpoolReply
from functions.local.service import LocalDelivery
from functions.message.mail import BytesContent
from functions.processors.base import Job, Processor
from tests.support.mails.spooled import MAIL, envelope_of


class TwoParts(Processor):
    """The database cannot be written from the moment the first part took effect; the second part
    fails once."""

    def __init__(self, database: Path, fault: Temporary | None = None) -> None:
        self._database = database
        self.fault = fault
        self.done: list[str] = []
        self.tried = 0

    def process(self, job: Job) -> None:
        job.once("first", self._first)
        job.once("second", self._second)

    def _first(self) -> str | None:
        self.tried += 1
        locked = threading.Event()
        threading.Thread(target=self._lock, args=(locked,)).start()
        assert locked.wait(5)
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        self.done.append("first")
        return None

    def _lock(self, locked: threading.Event) -> None:
        """Longer than the owner waits for a lock."""
        with closing(sqlite3.connect(self._database, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            locked.set()
            time.sleep(1.3)
            db.execute("ROLLBACK")

    def _second(self) -> str | None:
        if self.done.count("failed") == 0:
            self.done.append("failed")
            raise Temporary("not yet")
        self.done.append("second")
        return None


async def deliver(folder: Path, sink: TwoParts, on_doubt: str = "resend") -> None:
    """Have one mail delivered. Raises TimeoutError when it is not."""
    settings = Settings(first=0.01, longest=0.01)
    delivery = Delivery({"in": [Output("two", "two", sink)]}, on_doubt=on_doubt)
    local = LocalDelivery(Part(folder), delivery, settings)
    local.start()
    answered: asyncio.Future[SpoolReply] = asyncio.get_running_loop().create_future()
    local.submit(Item(envelope_of(), BytesContent(MAIL), answered.set_result))
    assert (await answered).code == 250
    async with asyncio.timeout(15):
        while sink.done[-1:] != ["second"]:
            await asyncio.sleep(0.02)
    await local.stop(5)
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        for table in ("mail", "receipt", "settled", "dead"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


async def test_an_effect_whose_receipt_waits_is_not_repeated(tmp_path: Path) -> None:
    sink = TwoParts(tmp_path / "spool.db")
    await deliver(tmp_path, sink)
    assert sink.done == ["first", "failed", "second"]


async def test_a_failure_that_cannot_be_noted_is_no_doubt(tmp_path: Path) -> None:
    sink = TwoParts(tmp_path / "spool.db", Temporary("refused"))
    await deliver(tmp_path, sink, on_doubt="dead-letter")
    assert sink.tried == 2
    assert sink.done == ["first", "failed", "second"]


class Unanswered(Processor):
    """Whose provider never answers."""

    def __init__(self) -> None:
        self.tried = 0

    def process(self, job: Job) -> None:
        job.once("call", self._call)

    def _call(self) -> str | None:
        self.tried += 1
        raise Temporary("no answer", in_doubt=True)


class Died(BaseException):
    """The end of a process within an effect."""


class Cut(Processor):
    """Whose process ends in the first effect."""

    def __init__(self) -> None:
        self.tried = 0

    def process(self, job: Job) -> None:
        job.once("call", self._call)

    def _call(self) -> str | None:
        self.tried += 1
        if self.tried == 1:
            raise Died
        return "taken"


def in_doubt(caplog: pytest.LogCaptureFixture) -> int:
    """How often the log announced a doubt."""
    return sum(getattr(record, "in_doubt", False) is True for record in caplog.records)


async def killed(local: LocalDelivery, item: Item | None, *, at_run: bool = False) -> None:
    """Serve until a run ends, and lose what it wrote: as if the process were killed before the commit of its
    results, or `at_run`, within the run."""
    stopped = asyncio.Event()
    put, loop = local._commits.put, asyncio.get_running_loop()

    def lost(message: Any) -> None:
        if isinstance(message, Progress):
            loop.call_soon_threadsafe(stopped.set)
        else:
            put(message)

    local._runs._put = lost
    if at_run:
        run = local._runs._run

        def ended(*given: Any) -> None:
            try:
                run(*given)
            except Died:
                loop.call_soon_threadsafe(stopped.set)

        local._runs._run = ended  # type: ignore[method-assign]
    local.start()
    if item is not None:
        local.submit(item)
    async with asyncio.timeout(10):
        await stopped.wait()
    await local.stop(0.2)


@pytest.mark.parametrize("lost_runs", [0, 2])
async def test_an_effect_cut_by_the_process_s_end_is_announced_before_it_is_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lost_runs: int
) -> None:
    """Also if the next processes end too, after they found the doubt: a slow output of the same mail may
    keep a run open for long."""
    caplog.set_level("WARNING", "smtp_relay.delivery")
    sink = Cut()

    def served() -> LocalDelivery:
        delivery = Delivery({"in": [Output("one", "one", sink)]})
        return LocalDelivery(Part(tmp_path), delivery, Settings(first=0.01, longest=0.01))

    await killed(served(), Item(envelope_of(), BytesContent(MAIL), lambda answer: None), at_run=True)
    for _ in range(lost_runs):
        await killed(served(), None)
        assert sink.tried == 1
    caplog.clear()
    local = served()
    local.start()
    async with asyncio.timeout(10):
        while sink.tried < 2:
            await asyncio.sleep(0.01)
    assert in_doubt(caplog) == 1
    await local.stop(5)


@pytest.mark.parametrize("kills", [1, 2])
@pytest.mark.parametrize("on_doubt", ["dead-letter", "resend"])
async def test_a_doubt_outlives_the_process_that_could_not_record_its_outcome(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, on_doubt: str, kills: int
) -> None:
    caplog.set_level("WARNING", "smtp_relay.delivery")
    sink = Unanswered()

    def served() -> LocalDelivery:
        delivery = Delivery({"in": [Output("one", "one", sink)]}, on_doubt=on_doubt)
        return LocalDelivery(Part(tmp_path), delivery, Settings(first=60))

    def count(table: str) -> int:
        with closing(sqlite3.connect(tmp_path / "spool.db")) as db:
            return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    for number in range(kills):
        item = Item(envelope_of(), BytesContent(MAIL), lambda answer: None)
        await killed(served(), None if number else item)
        if on_doubt == "resend":
            assert in_doubt(caplog) == number + 1
    local = served()
    local.start()
    settled = "dead" if on_doubt == "dead-letter" else "mail WHERE attempts > 0"
    async with asyncio.timeout(10):
        while not count(settled):
            await asyncio.sleep(0.02)
    await local.stop(5)
    assert sink.tried == 1, "not repeated before the doubt is recorded"
    assert count("receipt") == 0
