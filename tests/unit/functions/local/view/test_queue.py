"""The mails that wait in a spool folder: why, until when, and how one is tried now."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from functions.config import DeliveryConfig
from functions.delivery.engine import Delivery, Output
from functions.errors import Permanent, Temporary
from functions.local.deadletters import open_dead_letters
from functions.local.layout import Part
from functions.local.messages import Item, Settings, SpoolReply
from functions.local.service import LocalDelivery
from functions.local.sweep import sweep_once
from functions.local.view.queue import FolderQueue
from functions.message.mail import BytesContent
from functions.processors.base import Job, Processor
from functions.spool.deadletters import Selection
from functions.spool.queue import QueuedMail
from tests.support.mails.spooled import MAIL, envelope_of

DOWN = Temporary("127.0.0.1:25 cannot be reached: Connection refused", enhanced="4.4.1")
SLOW = Settings(first=3_000.0, longest=9_000.0)


class Sink(Processor):
    """Fails by a script, one entry a call."""

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.calls = 0
        self.got: list[str] = []

    def process(self, job: Job) -> None:
        self.calls += 1
        fault = self.script.pop(0) if self.script else None
        if fault is not None:
            raise fault
        self.got.append(job.mail.id)


@asynccontextmanager
async def running(root: Path, *sinks: Processor, settings: Settings = SLOW) -> AsyncIterator[LocalDelivery]:
    outputs = [Output(f"out_{at}", f"identity-{at}", sink) for at, sink in enumerate(sinks)]
    local = LocalDelivery(Part(root / "part-0"), Delivery({"in": outputs}), settings)
    local.start()
    ticks = asyncio.create_task(ticking(local))
    try:
        yield local
    finally:
        ticks.cancel()
        await local.stop(5)


async def ticking(local: LocalDelivery) -> None:
    while True:
        await asyncio.sleep(0.02)
        local.tick()


async def send(local: LocalDelivery) -> str:
    done: asyncio.Future[SpoolReply] = asyncio.get_running_loop().create_future()
    envelope = envelope_of(recipients=("bob@example.com", "hidden@example.com"))
    local.submit(Item(envelope, BytesContent(MAIL), done.set_result))
    assert (await asyncio.wait_for(done, 30)).code == 250
    return envelope.id


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def one(root: Path) -> QueuedMail:
    (found,) = FolderQueue(root).mails()
    return found


def config(root: Path) -> DeliveryConfig:
    return DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{root}"})


async def test_a_mail_that_waits_says_why_and_until_when(tmp_path: Path) -> None:
    async with running(tmp_path, Sink(), Sink(DOWN)) as local:
        mail_id = await send(local)
        await until(lambda: bool(one(tmp_path).failures))
        found = one(tmp_path)
    assert (found.id, found.state, found.attempts, found.dead) == (mail_id, "waiting", 1, ())
    assert found.reverse_path == "ada@example.com"
    assert found.recipients == ("bob@example.com", "hidden@example.com")
    assert found.next is not None
    assert 1_000_000 < found.next - time.time() * 1000 < 9_000_000
    (failure,) = found.failures
    assert (failure.flow, failure.output, failure.reason) == ("in", "out_1", DOWN.reason)
    assert (failure.code, failure.attempts, failure.in_doubt) == ("4.4.1", 1, False)


async def test_a_retry_is_made_at_once_though_the_next_attempt_was_scheduled_for_later(
    tmp_path: Path,
) -> None:
    sink = Sink(DOWN, DOWN)
    async with running(tmp_path, sink) as local:
        mail_id = await send(local)
        for attempts in (1, 2):
            await until(lambda attempts=attempts: one(tmp_path).attempts == attempts)  # type: ignore[misc]
            assert FolderQueue(tmp_path).retry([mail_id]) == [mail_id]
        await until(lambda: not list(FolderQueue(tmp_path).mails()))
        assert sink.got == [mail_id]
        assert sink.calls == 3


async def test_a_sweep_from_outside_makes_scheduled_mails_due(tmp_path: Path) -> None:
    sink = Sink(DOWN)
    async with running(tmp_path, sink) as local:
        mail_id = await send(local)
        await until(lambda: one(tmp_path).attempts == 1)
        assert sweep_once(config(tmp_path), tmp_path, {}).notified == 1
        await until(lambda: sink.got == [mail_id])


async def test_a_retry_of_other_ids_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, Sink(DOWN)) as local:
        await send(local)
        await until(lambda: one(tmp_path).attempts == 1)
        before = one(tmp_path)
        assert FolderQueue(tmp_path).retry(["01890a5d-ac96-774b-bcce-b302099a8001"]) == []
        assert one(tmp_path) == before


async def test_a_mail_that_is_done_leaves_no_failure(tmp_path: Path) -> None:
    async with running(tmp_path, Sink(DOWN), settings=Settings(first=0.01, longest=0.02)) as local:
        await send(local)
        await until(lambda: not list(FolderQueue(tmp_path).mails()))
        with closing(sqlite3.connect(tmp_path / "part-0" / "spool.db")) as db:
            assert db.execute("SELECT count(*) FROM failure").fetchone() == (0,)


async def test_a_parked_mail_has_its_dead_record_and_is_not_retried(tmp_path: Path) -> None:
    async with running(tmp_path, Sink(), Sink(DOWN, Permanent("no such user", enhanced="5.1.1"))) as local:
        mail_id = await send(local)
        await until(lambda: one(tmp_path).attempts == 1)
        FolderQueue(tmp_path).retry(None)
        await until(lambda: one(tmp_path).state == "parked")
        found = one(tmp_path)
        assert [record.reason for record in found.dead] == ["no such user"]
        assert found.failures == ()  # the reason of the dead record is the newer one
        assert FolderQueue(tmp_path).retry(None) == []
        assert list(FolderQueue(tmp_path).ids(parked=False)) == []
        assert [each for each, _ in FolderQueue(tmp_path).ids()] == [mail_id]
        letters = open_dead_letters(config(tmp_path), tmp_path, {})
        for record in letters.list(Selection()):
            letters.replay(record, now=True)
        await until(lambda: not list(FolderQueue(tmp_path).mails()))


async def test_an_attempt_without_an_answer_is_in_doubt(tmp_path: Path) -> None:
    async with running(tmp_path, Sink(Temporary("no answer", in_doubt=True))) as local:
        await send(local)
        await until(lambda: bool(one(tmp_path).failures))
        assert one(tmp_path).failures[0].in_doubt


async def test_an_effect_that_was_begun_is_under_way(tmp_path: Path) -> None:
    reached, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Holding(Processor):
        def process(self, job: Job) -> None:
            job.once("part", self._effect)

        def _effect(self) -> str:
            loop.call_soon_threadsafe(reached.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
            return "id"

    async with running(tmp_path, Holding()) as local:
        mail_id = await send(local)
        await asyncio.wait_for(reached.wait(), 30)
        (found,) = await asyncio.to_thread(lambda: list(FolderQueue(tmp_path).mails([mail_id], claims=True)))
        assert found.under_way
        release.set()
        await until(lambda: not list(FolderQueue(tmp_path).mails()))


async def test_a_spool_of_an_earlier_version_has_no_reasons(tmp_path: Path) -> None:
    async with running(tmp_path, Sink(DOWN)) as local:
        await send(local)
        await until(lambda: one(tmp_path).attempts == 1)
    with closing(sqlite3.connect(tmp_path / "part-0" / "spool.db")) as db:
        db.execute("DROP TABLE failure")
    assert one(tmp_path).failures == ()


async def test_a_reason_that_an_earlier_version_left_is_not_given_to_another_mail(tmp_path: Path) -> None:
    async with running(tmp_path, Sink(DOWN)) as local:
        await send(local)
        await until(lambda: bool(one(tmp_path).failures))
    with closing(sqlite3.connect(tmp_path / "part-0" / "spool.db")) as db:
        db.execute("UPDATE mail SET id = 'another'")
        db.commit()
    assert one(tmp_path).failures == ()


@pytest.mark.parametrize(
    "change",
    [
        "envelope = x'00ff'",
        "envelope = 7",
        "id = x'ff00', envelope = '{}'",
        "received = 'x', attempts = 'y', next = 'z'",
        "received = 1e300, attempts = -1, next = 1e300",
        "next = -9e999",
    ],
)
async def test_a_damaged_row_is_listed(tmp_path: Path, change: str) -> None:
    async with running(tmp_path, Sink(DOWN)) as local:
        await send(local)
        await until(lambda: one(tmp_path).attempts == 1)
    with closing(sqlite3.connect(tmp_path / "part-0" / "spool.db")) as db:
        db.execute(f"UPDATE mail SET {change}")
        db.commit()
    found = one(tmp_path)
    assert found.state == ("unreadable" if "envelope" in change else "waiting")
    assert [each for each, _ in FolderQueue(tmp_path).ids()] == [found.id]


async def test_many_mails_are_listed_in_their_order(tmp_path: Path) -> None:
    async with running(tmp_path, *[Sink(*[DOWN] * 450)]) as local:
        sent = [await send(local) for _ in range(450)]
        await until(lambda: all(each.attempts for each in FolderQueue(tmp_path).mails()))
        assert [each.id for each in FolderQueue(tmp_path).mails()] == sent
        assert len(FolderQueue(tmp_path).retry(None)) == 450


def test_a_folder_that_does_not_exist_has_no_mails_and_is_not_made(tmp_path: Path) -> None:
    queue = FolderQueue(tmp_path / "none")
    assert list(queue.mails()) == list(queue.ids()) == queue.retry(None) == queue.buried("x") == []
    assert list(tmp_path.iterdir()) == []
