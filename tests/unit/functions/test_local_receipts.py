"""Receipts that cannot be written when their effect is there."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

from functions.delivery import Delivery, Output
from functions.errors import Temporary
from functions.folder import Part
from functions.local import LocalDelivery
from functions.local_messages import Answer, Item, Settings
from functions.mail import BytesContent
from functions.processors.base import Job, Processor
from tests.support.spooled import MAIL, envelope_of


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
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
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
