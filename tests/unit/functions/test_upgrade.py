"""This version delivers the spool of an earlier version.

`golden/layout-1` is a local spool as version 2.0 wrote it: its database as SQL, which diffs show,
and its folder of large bodies. `golden/schema-1-*.eml` are objects of a bucket. A new layout or
schema gets files of its own beside these, which stay as long as they must be read (this version and
the one before).
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from functions.bucket.runner import BucketRunner, RunResult
from functions.config import DeliveryConfig
from functions.delivery.engine import Delivery, Output
from functions.local.deadletters import open_dead_letters
from functions.local.layout import Part
from functions.local.messages import Settings
from functions.local.service import LocalDelivery
from functions.processors.base import Job, Processor
from functions.spool.deadletters import Selection
from functions.spool.object import CONTENT_TYPE, split_object, spool_key
from tests.support.clouds.bucket_runner import MemoryReceipts
from tests.support.clouds.memory_store import MemoryStore

GOLDEN = Path(__file__).parent / "golden"

SMALL, LARGE, PARKED = (f"01890a5d-ac96-774b-bcce-b302099a800{number}" for number in (1, 2, 3))


class Sink(Processor):
    """The deliveries, by mail and flow; parts with a receipt are not requested again."""

    def __init__(self) -> None:
        self.mails: dict[tuple[str, str], bytes] = {}
        self.parts: list[str] = []

    def process(self, job: Job) -> None:
        job.once("part", lambda: self.parts.append(job.mail.id))
        self.mails[job.mail.id, job.flow] = job.mail.raw(job.flow)


def restored(folder: Path) -> Part:
    """The golden spool in a folder, as it was."""
    shutil.copytree(GOLDEN / "layout-1", folder)
    part = Part(folder / "part-0")
    with closing(sqlite3.connect(part.database)) as db:
        db.executescript((part.folder / "spool.sql").read_text())
    (part.folder / "spool.sql").unlink()
    return part


async def test_a_local_spool_of_layout_1(tmp_path: Path) -> None:
    part, sink = restored(tmp_path / "spool"), Sink()
    delivery = Delivery({"in": [Output("test_0", "identity-0", sink)]}, give_up_after=1e12)
    local = LocalDelivery(part, delivery, Settings(first=0.01, longest=0.01))
    local.start()
    async with asyncio.timeout(10):
        while len(sink.mails) < 2 or part_count(part) > 1 or list(part.large.iterdir()):
            await asyncio.sleep(0.01)
    assert sink.mails == {
        (SMALL, "in"): b"Subject: small\r\n\r\nof layout 1\r\n",
        (LARGE, "in"): b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 100,
    }

    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{tmp_path}/spool"})
    with closing(open_dead_letters(config, tmp_path, {})) as letters:
        (record,) = letters.list(Selection())
        assert (record.id, record.reason, record.code) == (PARKED, "gone", "5.2.0")
        letters.replay(record, now=True)
    async with asyncio.timeout(10):
        while part_count(part):
            local.tick()
            await asyncio.sleep(0.01)
    await local.stop(5)
    assert (PARKED, "in") in sink.mails
    assert sorted(sink.parts) == [SMALL, LARGE], "the parked mail's part has its receipt from then"


def part_count(part: Part) -> int:
    with closing(part.connect()) as db:
        count: int = db.execute("SELECT count(*) FROM mail").fetchone()[0]
        return count


@pytest.mark.parametrize("name", ["full", "small"])
def test_a_bucket_object_of_schema_1(name: str) -> None:
    data = (GOLDEN / f"schema-1-{name}.eml").read_bytes()
    envelope, content = split_object(data)
    store, sink = MemoryStore(), Sink()
    key = f"relay/{spool_key(envelope.id, envelope.received_at)}"
    store.create(key, data, CONTENT_TYPE)
    flows = {flow: [Output("test", "identity", sink)] for flow in envelope.flows()}
    runner = BucketRunner(store, "relay/", Delivery(flows), MemoryReceipts())
    assert runner.run(key, attempts=0, seconds_left=lambda: 1_000.0).result is RunResult.FINISHED
    assert {flow for _, flow in sink.mails} == set(envelope.flows())
    assert all(raw.endswith(content) for raw in sink.mails.values())
    assert not store.under("relay/")
