"""Rebuilding a part of the spool after a failed sync."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from functions.config import DeliveryConfig
from functions.delivery.engine import Delivery, Output
from functions.errors import Permanent, Temporary
from functions.ids import uuid7
from functions.local.database import CHECKPOINT_EVERY, Database
from functions.local.deadletters import open_dead_letters
from functions.local.layout import Part
from functions.local.messages import Item, Settings, SpoolReply
from functions.local.repair.rebuild import rebuild
from functions.local.service import LocalDelivery
from functions.local.sweep import sweep_once
from functions.local.view.reader import ids as ids_of
from functions.message.envelope import Client, Envelope, Recipient
from functions.message.mail import BytesContent, FileContent, Mail
from functions.processors.base import Job, Processor
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import Selection
from tests.support.thin_disk import ThinDisk, thin_disk

BODY = b"Subject: x\r\n\r\n" + b"line\r\n" * 300


class Later(Processor):
    """Accepts no mail for now."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.closed = True

    def process(self, job: Job) -> None:
        if self.closed:
            raise Temporary("closed")
        self.taken.append(job.mail.raw(job.flow))


class Refusing(Processor):
    """Never accepts a mail, and reports when its client was answered."""

    def process(self, job: Job) -> None:
        raise Permanent("gone", enhanced="5.3.0")


def item(answered: Callable[[SpoolReply], None], content: bytes, large: Path | None = None) -> Item:
    mail_id = uuid7()
    body: BytesContent | FileContent = BytesContent(content)
    if large is not None:
        path = large / f"{mail_id}.eml"
        path.write_bytes(content)
        body = FileContent(path, len(content))
    envelope = Envelope(
        id=mail_id,
        session="s",
        received=1_767_323_045_678,
        reverse_path="a@b.example",
        recipients=(Recipient(address="one@x.example", flows=("in",)),),
        client=Client(ip="192.0.2.1"),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    return Item(envelope, body, answered)


@asynccontextmanager
async def running(folder: Path, *outputs: Processor) -> AsyncIterator[LocalDelivery]:
    made = [Output(f"test_{i}", f"identity-{i}", one) for i, one in enumerate(outputs)]
    patient = Settings(first=0.05, longest=0.1, wait_for_all=False)
    local = LocalDelivery(Part(folder / "part-0"), Delivery({"in": made}, give_up_after=1e12), patient)
    local.start()
    try:
        yield local
    finally:
        await local.stop(5)


async def send(local: LocalDelivery, content: bytes = BODY, *, large: bool = False) -> tuple[Item, int]:
    done: asyncio.Future[SpoolReply] = asyncio.get_running_loop().create_future()
    one = item(done.set_result, content, local.staging.with_name("large") if large else None)
    local.submit(one)
    return one, (await asyncio.wait_for(done, 20)).code


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def rows(folder: Path, query: str = "SELECT count(*) FROM mail") -> int:
    with closing(sqlite3.connect(folder / "part-0" / "spool.db")) as db:
        found: int = db.execute(query).fetchone()[0]
        return found


def _all(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "part-0" / "spool.db")) as db:
        return list(db.execute(query))


DEAD = "SELECT count(*) FROM dead"


class Failing:
    """Makes the next syncs of files with such a path fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        self.struck = 0
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            path = str(Path(f"/proc/self/fd/{fd}").readlink())
            for each in self.paths:
                if path.endswith(each):
                    self.paths.remove(each)
                    self.struck += 1
                    raise OSError(errno.EIO, "Input/output error")
            real(fd)

        return sync


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(monkeypatch)


def inode(folder: Path) -> int:
    return (folder / "part-0" / "spool.db").stat().st_ino


@pytest.mark.parametrize("where", ["spool.db-wal", ".eml", "/large"])
async def test_a_sync_that_failed_puts_mails_off_until_the_part_was_written_anew(
    tmp_path: Path, failing: Failing, where: str
) -> None:
    """That of the log, of a large mail's file, of the folder that has its name."""
    output = Later()
    async with running(tmp_path, output) as local:
        kept = [await send(local), await send(local, BODY * 100, large=True)]
        assert [code for _, code in kept] == [250, 250]
        before = inode(tmp_path)
        told: list[bool] = []
        local.health_changed = lambda: told.append(local.healthy)
        failing.paths = [where, "spool.new", "spool.new"]
        refused, code = await send(local, large=where != "spool.db-wal")
        assert code == 451
        assert not local.healthy
        assert (await send(local))[1] == 451
        assert (await send(local, large=True))[1] == 451
        await until(lambda: local.healthy)
        assert told == [False, True]
        assert failing.struck == 3
        assert inode(tmp_path) != before
        assert not list((tmp_path / "part-0").glob("distrusted"))
        kept += [await send(local), await send(local, large=True)]
        assert {code for _, code in kept} == {250}
        output.closed = False
        await until(lambda: rows(tmp_path) == 0)
    assert sorted(output.taken) == sorted([BODY, BODY * 100, BODY, BODY])
    assert refused.content.path is None or not refused.content.path.exists()


async def test_what_was_put_off_is_not_taken_by_the_next_process(tmp_path: Path, failing: Failing) -> None:
    async with running(tmp_path, Later()) as local:
        taken, _ = await send(local)
        failing.paths = ["spool.db-wal", *["spool.new"] * 100]
        _, code = await send(local)
        assert code == 451
    failing.paths = []
    output = Later()
    output.closed = False
    async with running(tmp_path, output) as local:
        await until(lambda: local.healthy)
        await until(lambda: rows(tmp_path) == 0)
    assert len(output.taken) == 1
    assert taken.envelope.id


async def test_a_start_does_not_trust_data_of_a_failed_sync(tmp_path: Path, failing: Failing) -> None:
    async with running(tmp_path, Later()) as local:
        await send(local)
        failing.paths = ["spool.db-wal", *["spool.new"] * 100]
        await send(local)
    before = inode(tmp_path)
    failing.paths = ["spool.new"] * 2
    output = Later()
    async with running(tmp_path, output) as local:
        assert not local.healthy
        assert (await send(local))[1] == 451
        assert output.taken == []
        await until(lambda: local.healthy)
        assert inode(tmp_path) != before
        output.closed = False
        await until(lambda: rows(tmp_path) == 0)
    assert output.taken == [BODY]


async def test_receipts_and_dead_records_are_taken_along(tmp_path: Path, failing: Failing) -> None:
    async with running(tmp_path, Later()) as local:
        await send(local)
        with closing(sqlite3.connect(tmp_path / "part-0" / "spool.db")) as db:
            db.execute("INSERT INTO receipt VALUES ('key', 1, 'done', 'id')")
            db.execute("INSERT INTO settled VALUES (1, 'key', 'done')")
            db.execute("INSERT INTO dead VALUES ('id', 'key', '{}')")
            db.commit()
        failing.paths = ["spool.db-wal"]
        await send(local)
        await until(lambda: local.healthy)
        for table in ("mail", "receipt", "settled", "dead"):
            assert rows(tmp_path, f"SELECT count(*) FROM {table}") == 1, table


async def test_what_was_dropped_while_its_sync_failed_leaves_nothing(
    tmp_path: Path, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process sees the dead record before its sync is over, and drops it with the mail."""
    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{tmp_path}"})
    failed, dropped = os.fdatasync, 0

    def sync(fd: int) -> None:
        nonlocal dropped
        if not dropped and Part(tmp_path / "part-0").database.exists() and rows(tmp_path, DEAD):
            with closing(open_dead_letters(config, tmp_path, {})) as letters:
                for record in letters.list(Selection()):
                    letters.drop(record)
                    dropped += 1
            failing.paths = ["spool.db-wal"]
        failed(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    async with running(tmp_path, Refusing()) as local:
        one, before = item(lambda answer: None, BODY), inode(tmp_path)
        local.submit(one)
        await until(lambda: failing.struck == 1 and inode(tmp_path) != before and local.healthy)
        assert dropped == 1
        assert (await send(local))[1] == 250
        await until(lambda: rows(tmp_path, "SELECT count(*) FROM mail WHERE NOT parked") == 0)
    ((kept,),) = _all(tmp_path, "SELECT id FROM mail")
    assert kept != one.envelope.id
    assert _all(tmp_path, "SELECT id FROM dead") == [(kept,)]
    assert _all(tmp_path, "SELECT DISTINCT seq FROM settled") == _all(tmp_path, "SELECT seq FROM mail")


def test_what_is_settled_of_a_mail_that_is_gone_goes_with_it(tmp_path: Path) -> None:
    """A record that is left there does no harm, because the key holds the mail's id."""
    part = Part(tmp_path / "part-0")
    seal(part, 2)
    with closing(part.connect()) as db:
        db.executemany("INSERT INTO settled VALUES (?, 'key', 'done')", [(1,), (7,)])
    rebuild(part, condemn)
    part.trust.regain()
    assert _all(tmp_path, "SELECT seq FROM settled") == [(1,)]


def seal(part: Part, count: int) -> list[str]:
    """So many mails in a part without a server; their ids."""
    part.create()
    ids = []
    with closing(part.connect()) as db:
        for seq in range(1, count + 1):
            one = item(lambda answer: None, BODY)
            ids.append(one.envelope.id)
            db.execute(
                "INSERT INTO mail (seq, id, received, envelope, body) VALUES (?, ?, ?, ?, ?)",
                (seq, one.envelope.id, one.envelope.received, one.envelope.to_json(), BODY),
            )
    return ids


def _record(mail_id: str) -> str:
    record = DeadRecord(
        id=mail_id, key="key", flow="in", output="test_0", reason="gone", code="5.3.0", first=1, last=2
    )
    return record.model_dump_json()


def condemn(mail: Mail, settled: set[str], reason: str) -> list[DeadRecord]:
    return [
        DeadRecord(
            id=mail.id, key="key", flow="in", output="test_0", reason=reason, code="5.3.0", first=1, last=2
        )
    ]


DAMAGES = {
    "the body has other bytes": "UPDATE mail SET body = CAST(replace(body, 'line', 'LINE') AS BLOB)",
    "the body is a text": "UPDATE mail SET body = CAST(body AS TEXT)",
    "the body is short": "UPDATE mail SET body = substr(body, 1, 100)",
    "the body is gone": "UPDATE mail SET body = NULL",
    "the envelope is cut": "UPDATE mail SET envelope = substr(envelope, 1, 100)",
    "the envelope is empty": "UPDATE mail SET envelope = x''",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_mail_that_is_damaged_is_kept_with_a_dead_record(tmp_path: Path, damage: str) -> None:
    part = Part(tmp_path / "part-0")
    ids = seal(part, 3)
    with closing(sqlite3.connect(part.database)) as db:
        db.execute(f"{DAMAGES[damage]} WHERE seq = 2")
        db.commit()
    found = rebuild(part, condemn)
    part.trust.regain()
    assert found.mails == 3
    assert [record.id for record in found.condemned] == [ids[1]]
    with closing(part.connect()) as db:
        assert [seq for seq, _ in part.due(db, 1e12, 900.0)] == [1, 3]
        assert db.execute("SELECT id FROM mail WHERE parked = 1").fetchall() == [(ids[1],)]
    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{tmp_path}"})
    with closing(open_dead_letters(config, tmp_path, {})) as letters:
        (record,) = letters.list(Selection())
        assert record.id == ids[1]
        assert "damaged" in record.reason
        assert letters.show(record).record == record
        letters.drop(record)
    assert rows(tmp_path) == 2


def test_a_database_that_cannot_be_read_whole_is_kept_aside(tmp_path: Path) -> None:
    part = Part(tmp_path / "part-0")
    ids = seal(part, 400)
    size = part.database.stat().st_size
    with part.database.open("r+b") as file:
        file.seek(size // 8192 * 4096)
        file.write(b"\xff" * 4096)
    found = rebuild(part, condemn)
    part.trust.regain()
    assert not found.whole
    assert 300 < found.mails < 400
    assert len(list(part.folder.glob("damaged-*.db"))) == 1
    with closing(part.connect()) as db:
        left = {row[0] for row in db.execute("SELECT id FROM mail")}
    assert ids[0] in left
    assert ids[-1] in left


def test_what_a_crash_cut_short_is_done_again(tmp_path: Path) -> None:
    """The new database exists, the old one's log still beside the old one."""
    part = Part(tmp_path / "part-0")
    seal(part, 3)
    part.trust.lose()
    part.database.with_name("copy").write_bytes(part.database.read_bytes())
    (part.folder / "copy").rename(part.trust.rebuilt)
    part.log.write_bytes(b"not the new one's")
    found = rebuild(part, condemn)
    part.trust.regain()
    assert found.mails == 3
    assert not part.trust.rebuilt.exists()
    assert rows(tmp_path) == 3


def test_no_process_opens_a_part_that_is_not_trusted(tmp_path: Path) -> None:
    part = Part(tmp_path / "part-0")
    seal(part, 1)
    part.trust.lose()
    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{tmp_path}"})
    with pytest.raises(Temporary, match="anew"):
        list(open_dead_letters(config, tmp_path, {}).list(Selection()))
    with pytest.raises(sqlite3.OperationalError):
        part.connect()


def test_a_part_is_not_written_anew_while_a_process_has_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their changes would be lost."""
    monkeypatch.setattr("functions.local.repair.rebuild.PATIENCE", 0.05)
    part = Part(tmp_path / "part-0")
    seal(part, 1)
    with closing(part.connect()) as db:
        with pytest.raises(OSError, match="open"):
            rebuild(part, condemn)
        db.execute("INSERT INTO dead VALUES ('id', 'key', '{}')")
    rebuild(part, condemn)
    part.trust.regain()
    assert rows(tmp_path, "SELECT count(*) FROM dead") == 1


def test_a_visitor_leaves_the_log_to_the_owner(tmp_path: Path) -> None:
    """`deadletter`, `sweep` and the search for ids: SQLite's last user would copy the log into the
    database when it leaves, and would hide a failed sync."""
    part = Part(tmp_path / "part-0")
    ids = seal(part, 2)
    with closing(part.connect()) as db:
        db.execute("UPDATE mail SET parked = 1")
        db.executemany("INSERT INTO dead VALUES (?, 'key', ?)", [(i, _record(i)) for i in ids])
        died = {path: path.read_bytes() for path in (part.database, part.log)}
    for path, content in died.items():
        path.write_bytes(content)
    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{tmp_path}"})
    assert ids_of(part) == set(ids)
    assert sweep_once(config, tmp_path, {}).dead == 2
    with closing(open_dead_letters(config, tmp_path, {})) as letters:
        kept, dropped = letters.list(Selection())
        letters.drop(dropped)
        for _ in range(1_500):
            letters.drop(dropped)
    assert part.database.read_bytes() == died[part.database]
    assert part.log.read_bytes().startswith(died[part.log][:1000])
    part.create()
    assert ids_of(part) == {kept.id}


def test_an_abandoned_log_stays_as_it_is(tmp_path: Path) -> None:
    """SQLite's last user would copy the log into the database, which must not happen to a log that may
    have a hole; also if that last user is another connection."""
    part = Part(tmp_path / "part-0")
    part.create()
    store = Database(part, durable=True)
    store.commit(lambda db: db.execute("INSERT INTO dead VALUES ('id', 'key', '{}')"))
    other = part.connect()
    other.execute("SELECT count(*) FROM dead").fetchone()
    before = (part.database.read_bytes(), part.log.read_bytes())
    store.abandon()
    other.close()
    assert (part.database.read_bytes(), part.log.read_bytes()) == before
    store.release()


def test_the_log_of_a_process_that_died_is_written_again(tmp_path: Path) -> None:
    part = Part(tmp_path / "part-0")
    part.create()
    store = Database(part, durable=True)
    store.commit(lambda db: db.execute("INSERT INTO dead VALUES ('id', 'key', '{}')"))
    copies = {path.name: path.read_bytes() for path in (part.database, part.log)}
    store.close()
    for name, content in copies.items():
        (part.folder / name).write_bytes(content)
    before = part.log.stat().st_ino
    part.renew_log()
    assert part.log.stat().st_ino != before
    assert part.log.read_bytes() == copies[part.log.name]
    assert not part.trust.lost
    part.create()
    assert rows(tmp_path, "SELECT count(*) FROM dead") == 1


def test_a_log_that_cannot_be_written_again_is_not_trusted(tmp_path: Path, failing: Failing) -> None:
    part = Part(tmp_path / "part-0")
    part.create()
    part.log.write_bytes(b"left")
    failing.paths = ["spool.db-wal.new"]
    part.create()
    assert part.trust.lost


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[ThinDisk]:
    with thin_disk(tmp_path / "disk") as made:
        yield made


def test_the_database_s_own_sync_fails(disk: ThinDisk) -> None:
    """That when its log is copied into it."""
    part = Part(disk.path / "part-0")
    part.create()
    store = Database(part, durable=True)
    numbers = iter(range(1_000_000))

    def fill(db: sqlite3.Connection) -> None:
        for _ in range(200):
            db.execute("INSERT INTO receipt VALUES (?, 1, 'done', ?)", (next(numbers), "x" * 3_000))

    # The log has its full size, and then begins anew: its blocks are there.
    while part.log.stat().st_size < CHECKPOINT_EVERY:
        store.commit(fill)
    os.fdatasync(store._log)
    store.checkpoint()
    assert not part.trust.lost
    for _ in range(8):
        store.commit(fill)
    os.fdatasync(store._log)
    disk.starve()
    with pytest.raises(sqlite3.OperationalError):
        store._take_over()
    assert part.trust.lost
    disk.relieve()
    store.abandon()
    kept = next(numbers)
    rebuild(part, condemn)
    store.release()
    part.trust.regain()
    with closing(part.connect()) as db:
        assert db.execute("SELECT count(*) FROM receipt").fetchone()[0] == kept
    disk.cut()
    with closing(part.connect()) as db:
        assert db.execute("SELECT count(*) FROM receipt").fetchone()[0] == kept
