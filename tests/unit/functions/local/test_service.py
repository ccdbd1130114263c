"""The local spool, on a real folder: stored before answered, delivered once, taken up again."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from functions.config import DeliveryConfig
from functions.delivery.engine import Delivery, Output
from functions.errors import ConfigError, Permanent, Temporary
from functions.ids import uuid7
from functions.local.archive import Archive
from functions.local.deadletters import open_dead_letters
from functions.local.flusher import GATHER
from functions.local.layout import Lock, Part
from functions.local.messages import Item, Settings, SpoolReply
from functions.local.runs import IN_FLIGHT
from functions.local.service import LocalDelivery
from functions.local.sweep import sweep_once
from functions.message.envelope import Client, Envelope, Recipient
from functions.message.mail import BytesContent, FileContent
from functions.processors.base import Job, Placed, Processor
from functions.processors.context import BuildContext
from functions.processors.file.output import FileOutputOptions, build
from functions.spool.deadletters import Selection


class Sink(Processor):
    """Keeps the ids of mails; first raises the faults of the script, one entry a call."""

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.calls = 0
        self.mails: list[str] = []
        self.texts: list[bytes] = []

    def process(self, job: Job) -> Placed | None:
        self.calls += 1
        fault = self.script.pop(0) if self.script else None
        if fault is not None:
            raise fault
        self.mails.append(job.mail.id)
        self.texts.append(job.mail.raw(job.flow))
        return None


class QuickSink(Sink):
    quick = True


class OnceSink(Sink):
    """A slow output whose effect has a receipt."""

    def process(self, job: Job) -> Placed | None:
        job.once("part", lambda: self._effect(job))
        return None

    def _effect(self, job: Job) -> str:
        super().process(job)
        return "provider-id"


def item(answered: Callable[[SpoolReply], None], content: bytes | Path = b"Subject: x\r\n\r\n") -> Item:
    body = (
        BytesContent(content) if isinstance(content, bytes) else FileContent(content, content.stat().st_size)
    )
    envelope = Envelope(
        id=content.stem if isinstance(content, Path) else uuid7(),
        session="s",
        received=time.time_ns() // 1_000_000,
        reverse_path="a@b.example",
        recipients=(Recipient(address="one@x.example", flows=("in",)),),
        client=Client(ip="192.0.2.1"),
        size=body.size,
        sha256="",
    )
    return Item(envelope, body, answered)


FAST = Settings(durable=True, first=0.05, longest=0.2)


@asynccontextmanager
async def running(
    folder: Path, *outputs: Processor, settings: Settings = FAST
) -> AsyncIterator[LocalDelivery]:
    made = [Output(f"test_{i}", f"identity-{i}", one) for i, one in enumerate(outputs)]
    local = LocalDelivery(Part(folder / "part-0"), Delivery({"in": made}), settings)
    local.start()
    try:
        yield local
    finally:
        await local.stop(5)


async def send(
    local: LocalDelivery, content: bytes | Path = b"Subject: x\r\n\r\n"
) -> tuple[Item, SpoolReply]:
    done: asyncio.Future[SpoolReply] = asyncio.get_running_loop().create_future()
    one = item(done.set_result, content)
    local.submit(one)
    return one, await asyncio.wait_for(done, 10)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def rows(folder: Path, table: str = "mail") -> int:
    with closing(sqlite3.connect(folder / "part-0" / "spool.db")) as db:
        count: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return count


@pytest.mark.parametrize("durable", [True, False])
async def test_a_mail_is_delivered_before_its_answer_and_leaves_nothing(
    tmp_path: Path, durable: bool
) -> None:
    sink = QuickSink()
    async with running(tmp_path, sink, settings=Settings(durable=durable)) as local:
        one, answer = await send(local)
        assert answer[:3] == (250, "2.0.0", f"OK queued as {one.envelope.id}")
        assert sink.mails == [one.envelope.id]
        await until(lambda: rows(tmp_path) == 0)


async def test_many_at_once(tmp_path: Path) -> None:
    sink = QuickSink()
    async with running(tmp_path, sink) as local:
        results = await asyncio.gather(*[send(local) for _ in range(300)])
        assert {answer.code for _, answer in results} == {250}
        assert sorted(sink.mails) == sorted(one.envelope.id for one, _ in results)
        await until(lambda: rows(tmp_path) == 0)


class Left:
    """The work that an output leaves around the receipt: none, but the delivery must call it."""

    def fsync(self) -> None: ...

    def cleanup(self) -> None: ...


class LandingSink(QuickSink):
    def process(self, job: Job) -> Placed | None:
        super().process(job)
        return Left()


async def test_what_is_done_during_a_slow_sync_leaves_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when no other mail comes in afterwards."""
    slow = False

    def fdatasync(fd: int) -> None:
        real(fd)
        if slow:
            time.sleep(0.25)

    real = os.fdatasync
    monkeypatch.setattr("functions.local.database.os.fdatasync", fdatasync)
    async with running(tmp_path, LandingSink()) as local:
        for _ in range(3):
            slow = False
            await send(local)
            # The first one's delivery is flushed by now, but for a moment; the next one's sync begins.
            await asyncio.sleep(GATHER * 0.6)
            slow = True
            await send(local)
            await until(lambda: rows(tmp_path) == 0)


async def test_a_temporary_failure_is_accepted_and_tried_again(tmp_path: Path) -> None:
    sink, other = QuickSink(Temporary("folder is full"), Temporary("still")), QuickSink()
    async with running(tmp_path, sink, other) as local:
        one, answer = await send(local)
        assert answer.code == 250
        await until(lambda: sink.mails == [one.envelope.id])
        await until(lambda: rows(tmp_path) == 0)
    assert (sink.calls, other.calls) == (3, 1)


async def test_a_mail_that_every_output_refuses_stays_with_the_client(tmp_path: Path) -> None:
    dead = Permanent("no such folder", enhanced="5.2.4")
    async with running(tmp_path, QuickSink(dead), QuickSink(dead)) as local:
        _, answer = await send(local)
        assert answer[:2] == (554, "5.2.4")
        await until(lambda: rows(tmp_path) == 0)
    assert rows(tmp_path, "dead") == 0


class DelayedSink(QuickSink):
    """Takes so many seconds for its mails, one after the other, then none."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self._seconds = list(seconds)
        self.threads: list[str] = []

    def process(self, job: Job) -> Placed | None:
        self.threads.append(threading.current_thread().name)
        time.sleep(self._seconds.pop(0) if self._seconds else 0)
        return super().process(job)


@pytest.mark.parametrize(
    ("seconds", "slow_after"), [((0.15,), None), ((0.15, 0.0, 0.15, 0.15), 3), ((1.05, 0.15), 1)]
)
async def test_a_folder_that_is_slow_leaves_the_event_loop(
    tmp_path: Path, seconds: tuple[float, ...], slow_after: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Twice in short order, or once for long; a single hiccup does not count. It is logged once."""
    sink = DelayedSink(*seconds)
    async with running(tmp_path, sink) as local:
        for _ in range(5):
            await send(local)
    in_loop = [not name.startswith("delivery") for name in sink.threads]
    assert in_loop == [slow_after is None or number < slow_after for number in range(5)]
    assert caplog.text.count("a local output is slow") == (slow_after is not None)


async def test_slow_outputs_are_not_awaited_unless_asked(tmp_path: Path) -> None:
    sink = Sink(Permanent("refused", enhanced="5.7.1"))
    async with running(tmp_path, sink) as local:
        _, answer = await send(local)
        assert answer.code == 250
        await until(lambda: rows(tmp_path, "dead") == 1)
    waits = Settings(wait_for_all=True)
    async with running(tmp_path / "b", Sink(Permanent("refused", enhanced="5.7.1")), settings=waits) as local:
        _, answer = await send(local)
        assert answer[:2] == (554, "5.7.1")


async def test_mails_that_outrun_a_slow_output_wait_in_the_spool(tmp_path: Path) -> None:
    gate = threading.Event()

    class Blocked(Sink):
        def process(self, job: Job) -> Placed | None:
            assert gate.wait(20)
            return super().process(job)

    slow, quick = Blocked(), QuickSink()
    async with running(tmp_path, slow, quick) as local:
        sent = [await send(local) for _ in range(200)]
        assert {answer.code for _, answer in sent} == {250}
        assert local._runs.in_flight <= IN_FLIGHT + 1
        gate.set()
        await until(lambda: rows(tmp_path) == 0)
    ids = sorted(one.envelope.id for one, _ in sent)
    assert sorted(slow.mails) == sorted(quick.mails) == ids


async def test_a_dead_output_parks_the_mail_and_replay_delivers_it_once(tmp_path: Path) -> None:
    dying, fine = QuickSink(Permanent("gone", enhanced="5.2.0")), QuickSink()
    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{tmp_path}"})
    async with running(tmp_path, dying, fine) as local:
        one, answer = await send(local)
        assert answer.code == 250
        await until(lambda: rows(tmp_path, "dead") == 1)
        with closing(open_dead_letters(config, tmp_path, {})) as letters:
            (record,) = letters.list(Selection())
            assert (record.id, record.reason, record.output) == (one.envelope.id, "gone", "test_0")
            shown = letters.show(record)
            assert shown.envelope == one.envelope
            assert shown.head == b"Subject: x\r\n\r\n"
            letters.replay(record, now=True)
            # Another command may have listed the record before.
            with pytest.raises(Permanent, match="meanwhile"):
                letters.replay(record, now=True)
        await asyncio.sleep(0)
        for _ in range(500):
            local.tick()
            if rows(tmp_path) == 0:
                break
            await asyncio.sleep(0.02)
    assert (dying.mails, fine.mails) == ([one.envelope.id], [one.envelope.id])
    assert rows(tmp_path, "dead") == rows(tmp_path, "settled") == 0


async def test_dropping_the_last_record_drops_the_mail(tmp_path: Path) -> None:
    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{tmp_path}"})
    async with running(tmp_path, QuickSink(Permanent("gone")), QuickSink()) as local:
        await send(local)
        await until(lambda: rows(tmp_path, "dead") == 1)
    with closing(open_dead_letters(config, tmp_path, {})) as letters:
        for record in list(letters.list(Selection())):
            letters.drop(record)
    assert rows(tmp_path) == rows(tmp_path, "dead") == rows(tmp_path, "settled") == 0


async def test_what_a_stopped_server_left_is_delivered_by_the_next(tmp_path: Path) -> None:
    async with running(tmp_path, QuickSink(*[Temporary("down")] * 100), settings=Settings(first=60)) as local:
        sent = [await send(local) for _ in range(20)]
    assert rows(tmp_path) == 20
    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{tmp_path}"})
    swept = sweep_once(config, tmp_path, {})
    assert (swept.unfinished, swept.dead, swept.notified) == (20, 0, 20)
    sink = QuickSink()
    async with running(tmp_path, sink):
        await until(lambda: rows(tmp_path) == 0)
    assert sorted(sink.mails) == sorted(one.envelope.id for one, _ in sent)


async def test_large_bodies_stay_files_until_delivered(tmp_path: Path) -> None:
    sink = QuickSink(Temporary("once"))
    async with running(tmp_path, sink) as local:
        path = tmp_path / "part-0" / "large" / f"{uuid7()}.eml"
        path.write_bytes(b"x" * 200_000)
        _, answer = await send(local, path)
        assert answer.code == 250
        await until(lambda: rows(tmp_path) == 0)
    assert sink.texts == [b"x" * 200_000]
    assert not path.exists()


def to_folder(folder: Path, name: str) -> Processor:
    staging = folder / "part-0" / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    context = BuildContext.of(folder, {}, staging=staging)
    return build(FileOutputOptions(path=name), name, context)


def large_mail(folder: Path) -> Path:
    path = folder / "part-0" / "large" / f"{uuid7()}.eml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"Subject: x\r\n\r\n" + b"line\r\n" * 20_000)
    return path


async def test_a_large_mail_s_only_reader_gets_the_spool_s_own_file(tmp_path: Path) -> None:
    async with running(tmp_path, to_folder(tmp_path, "out")) as local:
        path = large_mail(tmp_path)
        before = path.stat().st_ino
        await send(local, path)
        await until(lambda: rows(tmp_path) == 0)
        (file,) = (tmp_path / "out").glob("*.eml")
    assert file.stat().st_ino == before
    assert file.stat().st_nlink == 1


@pytest.mark.parametrize("other", ["quick", "slow", "refusing at first", "kept"])
async def test_a_large_mail_that_others_read_is_copied(tmp_path: Path, other: str) -> None:
    others = {
        "quick": [QuickSink()],
        "slow": [Sink()],
        "refusing at first": [Sink(Temporary("not yet"), Temporary("not yet"))],
        "kept": [],
    }[other]
    archive = Archive("kept/${id}.eml", tmp_path, durable=True)
    settings = Settings(first=0.05, longest=0.1, keep=archive.keep if other == "kept" else None)
    async with running(tmp_path, to_folder(tmp_path, "out"), *others, settings=settings) as local:
        path = large_mail(tmp_path)
        before = path.stat().st_ino
        await send(local, path)
        (file,) = (tmp_path / "out").glob("*.eml")
        assert file.stat().st_ino != before
        file.write_bytes(b"")
        await until(lambda: rows(tmp_path) == 0)
    assert all(len(text) > 100_000 for one in others for text in one.texts)


async def test_what_was_given_up_is_replayed_whole(tmp_path: Path) -> None:
    """Its consumer's file may have been changed since."""
    sink = Sink(Permanent("no such place"))
    async with running(tmp_path, sink, to_folder(tmp_path, "out")) as local:
        await send(local, large_mail(tmp_path))
        await until(lambda: rows(tmp_path, "dead") == 1)
        (file,) = (tmp_path / "out").glob("*.eml")
        file.write_bytes(b"")
        config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{tmp_path}"})
        with closing(open_dead_letters(config, tmp_path, {})) as letters:
            (record,) = letters.list(Selection())
            letters.replay(record, now=True)
        for _ in range(200):
            local.tick()
            await asyncio.sleep(0.01)
            if rows(tmp_path) == 0:
                break
    assert [len(text) for text in sink.texts] == [len(b"Subject: x\r\n\r\n") + 6 * 20_000]


async def test_bodies_of_mails_that_were_never_accepted_are_removed(tmp_path: Path) -> None:
    part = Part(tmp_path / "part-0")
    part.create()
    (part.large / "left.eml").write_bytes(b"half")
    async with running(tmp_path, QuickSink()):
        assert not list(part.large.iterdir())


async def test_a_receipt_keeps_an_effect_from_being_repeated(tmp_path: Path) -> None:
    effect, failing = OnceSink(), Sink(Temporary("down"), Temporary("down"))
    async with running(tmp_path, effect, failing) as local:
        await send(local)
        await until(lambda: rows(tmp_path) == 0)
    assert (effect.calls, failing.calls) == (1, 3)
    assert rows(tmp_path, "receipt") == 0


async def test_a_claim_that_a_crash_left_is_in_doubt_and_then_resent(tmp_path: Path) -> None:
    effect = OnceSink()
    async with running(
        tmp_path, effect, Sink(*[Temporary("down")] * 9), settings=Settings(first=60)
    ) as local:
        await send(local)
        await until(lambda: rows(tmp_path, "settled") == 1)
    with closing(sqlite3.connect(tmp_path / "part-0" / "spool.db")) as db:
        # As if the process had died between the claim and the provider's answer.
        db.execute("UPDATE receipt SET state = 'claimed'")
        db.execute("DELETE FROM settled")
        db.commit()
    async with running(tmp_path, effect, Sink()):
        await until(lambda: rows(tmp_path) == 0)
    assert effect.calls == 2


async def test_a_full_disk_answers_452_and_keeps_nothing(tmp_path: Path) -> None:
    sink = QuickSink()
    async with running(tmp_path, sink) as local:
        db = local._commits.store.db
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 1}")
        _, answer = await send(local, b"x" * 60_000)
        assert answer[:2] == (452, "4.3.1")
        assert not local.healthy
        db.execute("PRAGMA max_page_count = 1000000")
        _, answer = await send(local, b"x" * 60_000)
        assert answer.code == 250
        assert local.healthy
    assert sink.calls == 1


async def test_a_spool_that_hangs_defers_and_the_mail_is_not_delivered_behind_the_answer(
    tmp_path: Path,
) -> None:
    sink = QuickSink()
    async with running(tmp_path, sink, settings=Settings(wait=0.05)) as local:
        other = sqlite3.connect(tmp_path / "part-0" / "spool.db", isolation_level=None)
        with closing(other):
            hold = local._commits.store.sync
            held: list[Callable[[OSError | None], object]] = []
            local._commits.store.sync = held.append  # type: ignore[method-assign]
            task = asyncio.create_task(send(local))
            await asyncio.sleep(0.2)
            local.tick()
            _, answer = await task
            assert answer[:2] == (451, "4.3.0")
            local._commits.store.sync = hold  # type: ignore[method-assign]
            held[0](None)
            await until(lambda: rows(tmp_path) == 0)
    assert sink.calls == 0


async def test_finished_mails_are_kept_where_asked_and_can_be_replayed(tmp_path: Path) -> None:
    archive = Archive("kept/${iso8601}.eml", tmp_path, durable=True)
    sink = QuickSink()
    settings = Settings(keep=archive.keep)
    async with running(tmp_path / "spool", sink, settings=settings) as local:
        first, _ = await send(local)
        second, _ = await send(local)
        await until(lambda: rows(tmp_path / "spool") == 0)
        assert len(list((tmp_path / "kept").glob("*.eml"))) == 2
        assert archive.find(second.envelope.id) is not None
        config = DeliveryConfig.model_validate(
            {"flows": {}, "spool": f"file://{tmp_path}/spool", "cachePath": "kept/${iso8601}.eml"}
        )
        with closing(open_dead_letters(config, tmp_path, {})) as letters:
            assert letters.replay_kept(first.envelope.id, now=True) == 1
            with pytest.raises(Permanent, match="is kept"):
                letters.replay_kept("nothing", now=True)
        for _ in range(500):
            local.tick()
            if len(sink.mails) == 3:
                break
            await asyncio.sleep(0.02)
        third, answer = await send(local)
        assert answer.code == 250
    assert sink.mails == [first.envelope.id, second.envelope.id, first.envelope.id, third.envelope.id]


async def test_only_the_owner_may_read_the_spool(tmp_path: Path) -> None:
    async with running(tmp_path / "spool", QuickSink()):
        assert (tmp_path / "spool" / "part-0").stat().st_mode & 0o777 == 0o700
    Lock(tmp_path / "made").release()
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700


def test_one_server_owns_a_folder(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(ConfigError, match="another server is using it"):
        Lock(tmp_path)
    lock.release()
    Lock(tmp_path).release()


def test_a_spool_of_another_layout_is_left_alone(tmp_path: Path) -> None:
    part = Part(tmp_path / "part-0")
    part.create()
    with closing(part.connect()) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="another version"):
        part.create()
