"""Mails of a folder spool that cannot be read, or are not the accepted ones: a dead record has the
reason, the row and the file stay, and no output gets damaged content."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from functions.config import DeliveryConfig
from functions.delivery.engine import ENVELOPE, Delivery, Output
from functions.errors import Permanent, Temporary
from functions.local.archive import Archive
from functions.local.deadletters import FolderDeadLetters, open_dead_letters
from functions.local.layout import Part
from functions.local.messages import Item, Settings, SpoolReply
from functions.local.service import LocalDelivery
from functions.local.sweep import sweep_once
from functions.message.envelope import FlowNotes
from functions.message.mail import BytesContent, Content, FileContent
from functions.processors.base import Job, Placed, Processor
from functions.processors.context import BuildContext
from functions.processors.file.output import FileOutputOptions, build
from functions.processors.file.placed import Directory
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import Selection
from functions.spool.object import encode_object
from tests.support.mails.damage import DAMAGED, DAMAGES, HOSTILE, flipped
from tests.support.mails.spooled import MAIL, envelope_of

LARGE = MAIL + b"0123456789abcdef\r\n" * 20_000
FAST = Settings(first=0.02, longest=0.05)
DOWN = Temporary("down")


class Sink(Processor):
    """Fails by a script, one entry a call; `got` lists its effects."""

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.calls = 0
        self.got: list[bytes] = []

    def process(self, job: Job) -> Placed | None:
        self.calls += 1
        fault = self.script.pop(0) if self.script else None
        if fault is not None:
            raise fault
        self.got.append(job.mail.raw(job.flow))
        return None


class QuickSink(Sink):
    quick = True


class OnceSink(Sink):
    """Whose effect has a receipt."""

    def process(self, job: Job) -> Placed | None:
        job.once("part", lambda: str(super(OnceSink, self).process(job)))
        return None


class Place:
    """A spool in a folder, and the service for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.part = Part(folder / "part-0")
        self.out = folder.parent / "out"

    def file_output(self, **options: Any) -> Processor:
        self.part.staging.mkdir(parents=True, exist_ok=True)
        context = BuildContext.of(self.folder.parent, {}, staging=self.part.staging)
        return build(FileOutputOptions(path="out", **options), "file_0", context)

    async def land(self, output: Processor) -> Path:
        """Leave a large mail in the spool whose file was placed as that output's; the process died then."""
        await self.wait_in_spool(LARGE)
        with closing(self.part.connect()) as db:
            row = self.part.load(db, self.part.waiting(db)[0])
        assert row is not None
        output.process(Job(row.mail, "in", ("bob@example.com",), lambda part, effect: effect(), lambda: 1e9))
        (placed,) = (path for path in self.out.rglob("*.eml") if not path.name.startswith("."))
        assert placed.samefile(self.part.large / f"{row.mail.id}.eml")
        return placed

    @asynccontextmanager
    async def served(self, *outputs: Processor, settings: Settings = FAST) -> AsyncIterator[LocalDelivery]:
        made = [Output(f"test_{at}", f"identity-{at}", one) for at, one in enumerate(outputs)]
        local = LocalDelivery(self.part, Delivery({"in": made}), settings)
        local.start()
        try:
            yield local
        finally:
            await local.stop(5)

    async def send(
        self,
        local: LocalDelivery,
        data: bytes = MAIL,
        *,
        damage: Callable[[bytes], bytes] | None = None,
        **about: Any,
    ) -> SpoolReply:
        """Store a mail; a large one as a file, to which `damage` may be done before it is spooled."""
        envelope = envelope_of(data, **about)
        content: Content = BytesContent(data)
        if len(data) > 65_536:
            path = self.part.large / f"{envelope.id}.eml"
            path.write_bytes(data if damage is None else damage(data))
            content = FileContent(path, len(data))
        answered: asyncio.Future[SpoolReply] = asyncio.get_running_loop().create_future()
        local.submit(Item(envelope, content, answered.set_result))
        return await asyncio.wait_for(answered, 10)

    async def wait_in_spool(self, data: bytes = MAIL, **about: Any) -> None:
        """Leave a mail in the spool that no output took yet."""
        async with self.served(QuickSink(*[DOWN] * 99), settings=Settings(first=60)) as local:
            assert (await self.send(local, data, **about)).code == 250

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.part.database, isolation_level=None)) as db:
            yield db

    def execute(self, statement: str, *values: Any) -> None:
        with self.database() as db:
            assert db.execute(statement, values).rowcount == 1

    def damage(self, how: Callable[[bytes], bytes]) -> None:
        """Damage the one mail's stored body. A new file replaces a large one, because a delivered link
        to the old file must stay unchanged."""
        with self.database() as db:
            mail_id, body = db.execute("SELECT id, body FROM mail").fetchone()
        if body is not None:
            self.execute("UPDATE mail SET body = ?", how(body))
            return
        path = self.part.large / f"{mail_id}.eml"
        changed = path.with_suffix(".new")
        changed.write_bytes(how(path.read_bytes()))
        changed.replace(path)

    def count(self, what: str) -> int:
        with self.database() as db:
            return int(db.execute(f"SELECT count(*) FROM {what}").fetchone()[0])

    def records(self) -> list[DeadRecord]:
        with closing(self.letters()) as letters:
            return list(letters.list(Selection()))

    def letters(self, **more: Any) -> FolderDeadLetters:
        config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{self.folder}", **more})
        return open_dead_letters(config, self.folder.parent, {})

    async def settled(self, dead: int, local: LocalDelivery | None = None) -> None:
        """Every mail is finished or parked, and so many records exist; a given `local` has its ticks
        meanwhile."""
        async with asyncio.timeout(10):
            while self.count("mail WHERE parked != 1") or self.count("dead") < dead:
                await asyncio.sleep(0.01)
                if local is not None:
                    local.tick()
        assert self.count("dead") == dead


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "spool")


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    assert not [record.getMessage() for record in caplog.records if record.exc_info]


class TestDamagedMail:
    @pytest.mark.parametrize("data", [MAIL, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("how", DAMAGES)
    @pytest.mark.parametrize("kind", [Sink, QuickSink, OnceSink])
    async def test_a_mail_that_waited_is_a_dead_record_and_stays(
        self, place: Place, kind: type[Sink], how: str, data: bytes
    ) -> None:
        await place.wait_in_spool(data)
        place.damage(DAMAGES[how])
        sink = kind()
        async with place.served(sink):
            await place.settled(dead=1)
        assert not sink.got
        (record,) = place.records()
        assert (record.reason, record.output) == (DAMAGED, "test_0")
        assert record.recipients == ("bob@example.com",)
        assert place.count("mail") == 1
        assert len(list(place.part.large.iterdir())) == (data is LARGE)
        assert place.count("receipt") == 0

    @pytest.mark.parametrize("data", [MAIL, LARGE], ids=["small", "large"])
    async def test_between_two_attempts_of_one_process(self, place: Place, data: bytes) -> None:
        sink = Sink(DOWN, DOWN)
        async with place.served(sink, settings=Settings(first=0.3, longest=0.3)) as local:
            await place.send(local, data)
            place.damage(flipped)
            await place.settled(dead=1)
        assert not sink.got

    @pytest.mark.parametrize("how", DAMAGES)
    async def test_a_hard_link_is_not_made_of_it(self, place: Place, how: str) -> None:
        await place.wait_in_spool(LARGE)
        place.damage(DAMAGES[how])
        async with place.served(place.file_output()):
            await place.settled(dead=1)
        assert not list(place.out.iterdir())
        assert not list(place.part.staging.iterdir())
        assert len(list(place.part.large.iterdir())) == 1

    async def test_what_is_whole_is_linked_and_leaves(self, place: Place) -> None:
        await place.wait_in_spool(LARGE)
        async with place.served(place.file_output()):
            await place.settled(dead=0)
            async with asyncio.timeout(10):
                while place.count("mail") or list(place.part.large.iterdir()):
                    await asyncio.sleep(0.01)
        (path,) = place.out.iterdir()
        assert path.read_bytes() == LARGE

    async def test_only_the_outputs_that_are_left_are_given_up(self, place: Place) -> None:
        done, down = Sink(), Sink(DOWN, DOWN)
        async with place.served(done, down, settings=Settings(first=60)) as local:
            await place.send(local)
            async with asyncio.timeout(10):
                while not place.count("settled"):
                    await asyncio.sleep(0.01)
        place.damage(flipped)
        async with place.served(done, down):
            await place.settled(dead=1)
        assert [record.output for record in place.records()] == ["test_1"]
        assert (done.got, down.got) == ([MAIL], [])

    async def test_an_effect_whose_receipt_is_there_is_done(self, place: Place) -> None:
        """The process died before it recorded that the output is settled."""
        once = OnceSink()
        async with place.served(once, Sink(*[DOWN] * 9), settings=Settings(first=60)) as local:
            await place.send(local)
            async with asyncio.timeout(10):
                while not place.count("settled"):
                    await asyncio.sleep(0.01)
        with place.database() as db:
            db.execute("DELETE FROM settled")
        place.damage(flipped)
        async with place.served(once, Sink()):
            await place.settled(dead=1)
        assert [record.output for record in place.records()] == ["test_1"]
        assert once.got == [MAIL]

    async def test_a_replay_is_refused_again_and_again(self, place: Place) -> None:
        await place.wait_in_spool()
        place.damage(flipped)
        sink = Sink()
        async with place.served(sink) as local:
            for _ in range(3):
                await place.settled(dead=1, local=local)
                with closing(place.letters()) as letters:
                    (record,) = letters.list(Selection())
                    assert letters.show(record).envelope is not None
                    letters.replay(record, now=True)
            await place.settled(dead=1, local=local)
        assert not sink.got
        assert place.count("mail") == 1

    @pytest.mark.parametrize("without", ["empty", "absent"])
    async def test_a_row_of_an_older_version_without_a_hash_is_held_against_its_size(
        self, place: Place, without: str
    ) -> None:
        for data, dead in ((MAIL, 0), (MAIL[:-1], 1)):
            await place.wait_in_spool()
            with place.database() as db:
                raw = json.loads(db.execute("SELECT envelope FROM mail").fetchone()[0])
            if without == "empty":
                raw["sha256"] = ""
            else:
                del raw["sha256"]
            place.execute("UPDATE mail SET envelope = ?, body = ?", json.dumps(raw).encode(), data)
            sink = Sink()
            async with place.served(sink):
                await place.settled(dead=dead)
            assert len(sink.got) == 1 - dead

    async def test_a_copy_is_not_kept_of_it(self, place: Place, tmp_path: Path) -> None:
        """Every output is done before the damage; only the copy is left to do."""
        archive = Archive("kept/${id}.eml", tmp_path, durable=True)
        (tmp_path / "kept").write_text("in the way")
        settings = Settings(first=0.2, longest=0.2, keep=archive.keep)
        sink = Sink()
        async with place.served(sink, settings=settings) as local:
            await place.send(local, LARGE)
            async with asyncio.timeout(10):
                while not sink.got:
                    await asyncio.sleep(0.01)
            place.damage(flipped)
            (tmp_path / "kept").unlink()
            await place.settled(dead=1)
        (record,) = place.records()
        assert record.reason == DAMAGED
        assert not [path for path in (tmp_path / "kept").glob("**/*") if path.is_file()]
        assert place.count("mail") == 1

    async def test_a_damaged_kept_copy_is_not_replayed(self, place: Place, tmp_path: Path) -> None:
        place.part.create()
        envelope = envelope_of()
        kept = tmp_path / "kept" / f"{envelope.id}.eml"
        kept.parent.mkdir()
        kept.write_bytes(flipped(encode_object(envelope, MAIL)))
        with (
            closing(place.letters(cachePath="kept/${id}.eml")) as letters,
            pytest.raises(Permanent, match=DAMAGED),
        ):
            letters.replay_kept(envelope.id, now=True)
        assert place.count("mail") == 0
        assert kept.exists()


CONSUMERS: dict[str, Callable[[Path], object]] = {
    "changes": lambda path: path.write_bytes(flipped(LARGE)),
    "cuts": lambda path: path.write_bytes(LARGE[:100]),
    "empties": lambda path: path.write_bytes(b""),
    "adds to": lambda path: path.write_bytes(LARGE + b"seen\r\n"),
    "changes and moves": lambda path: (path.write_bytes(b"x"), path.rename(path.parent.parent / "taken")),
    "changes and deletes": lambda path: (path.write_bytes(b"x"), path.unlink()),
}


class TestAConsumerHasTheSpoolsOwnFile:
    """A large mail was placed by a link, its consumer changed it, and the process died before the mail
    left."""

    @pytest.mark.parametrize("filename", ["${id}.eml", "${subject}.eml", "below/${subject}/${id}.eml"])
    @pytest.mark.parametrize("consumer", CONSUMERS)
    @pytest.mark.parametrize("rebuilt", [False, True], ids=["", "after a failed sync"])
    async def test_what_it_did_is_no_damage(
        self, place: Place, filename: str, consumer: str, rebuilt: bool
    ) -> None:
        output = place.file_output(filename=filename)
        placed = await place.land(output)
        CONSUMERS[consumer](placed)
        before = placed.read_bytes() if placed.exists() else None
        if rebuilt:
            place.part.trust.lose()
        async with place.served(place.file_output(filename=filename)), asyncio.timeout(10):
            while place.part.trust.lost or place.count("mail WHERE NOT parked"):
                await asyncio.sleep(0.01)
            while list(place.part.large.iterdir()):
                await asyncio.sleep(0.01)
        assert [place.count(table) for table in ("mail", "settled", "dead")] == [0, 0, 0]
        assert (placed.read_bytes() if placed.exists() else None) == before
        there = {path for path in place.out.rglob("*") if path.is_file() and path.name != "taken"}
        assert there == ({placed} if before is not None else set())
        assert not list(place.part.staging.iterdir())

    async def test_another_output_does_not_get_it(self, place: Place) -> None:
        """An output that the configuration has only since."""
        placed = await place.land(place.file_output())
        placed.write_bytes(flipped(LARGE))
        added = Sink()
        async with place.served(place.file_output(), added):
            await place.settled(dead=1)
        assert not added.got
        assert [record.output for record in place.records()] == ["test_1"]

    async def test_a_file_that_was_not_placed_is_damaged(self, place: Place, tmp_path: Path) -> None:
        """No consumer ever had it."""
        placed = await place.land(place.file_output())
        (seal,) = place.part.staging.iterdir()
        placed.rename(seal.with_suffix(".body"))
        CONSUMERS["changes"](seal)
        async with place.served(place.file_output()):
            await place.settled(dead=1)
        assert not list(place.out.iterdir())
        assert [record.reason for record in place.records()] == [DAMAGED]

    async def test_a_file_that_cannot_be_flushed_is_tried_again(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        placed = await place.land(place.file_output())
        placed.write_bytes(b"")
        failing = [OSError(errno.EIO, "Input/output error")] * 2
        real = Directory.sync_file_system

        def sync(directory: Directory) -> bool:
            if failing:
                raise failing.pop()
            return real(directory)

        monkeypatch.setattr(Directory, "sync_file_system", sync)
        async with place.served(place.file_output()), asyncio.timeout(10):
            while place.count("mail"):
                await asyncio.sleep(0.01)
        assert not failing
        assert place.count("dead") == 0


class TestDroppedOutputs:
    """A record that is dropped while another output of its mail still waits: that output is finished."""

    @pytest.mark.parametrize("while_it_runs", [False, True])
    @pytest.mark.parametrize("then", ["it takes the mail", "it is given up"])
    async def test_the_mail_leaves_with_the_last_output(
        self, place: Place, while_it_runs: bool, then: str
    ) -> None:
        entered, leave = threading.Event(), threading.Event()

        class Slow(Sink):
            def process(self, job: Job) -> Placed | None:
                if self.calls:
                    entered.set()
                    assert leave.wait(20)
                return super().process(job)

        gone = Sink(Permanent("gone", enhanced="5.3.0"), *[AssertionError("attempted again")] * 9)
        other = Slow(DOWN, None if then == "it takes the mail" else Permanent("gone, too", enhanced="5.3.0"))
        settings = Settings(first=0.2, longest=0.2)
        async with place.served(gone, other, settings=settings) as local:
            assert (await place.send(local, LARGE)).code == 250
            await asyncio.to_thread(entered.wait, 20)
            if not while_it_runs:
                other.script[0:0] = [DOWN]
                leave.set()
            self.drop(place)
            leave.set()
            await place.settled(dead=int(then == "it is given up"), local=local)
            if then == "it is given up":
                assert place.count("mail WHERE parked = 1") == 1
                self.drop(place)
            async with asyncio.timeout(10):
                while place.count("mail") or list(place.part.large.iterdir()):
                    await asyncio.sleep(0.01)
        assert [place.count(table) for table in ("settled", "dead", "receipt")] == [0, 0, 0]
        assert gone.calls == 1

    @staticmethod
    def drop(place: Place) -> None:
        with closing(place.letters()) as letters:
            (record,) = letters.list(Selection())
            letters.drop(record)


class TestWhileTheClientWaits:
    """The client still has the mail: the reply asks it to try again, and the spool keeps nothing."""

    @pytest.mark.parametrize(
        ("how", "copied"),
        [
            (how, copied)
            for how, change in DAMAGES.items()
            for copied in (True, False)
            if copied or len(change(LARGE)) != len(LARGE)
        ],
    )
    async def test_a_large_mail_that_the_disk_spoiled(self, place: Place, how: str, copied: bool) -> None:
        """The bytes that a hard link does not read are compared only by number."""
        notes = {"in": FlowNotes(headers=(("X-Flow", "in"),))} if copied else {}
        async with place.served(place.file_output()) as local:
            answer = await place.send(local, LARGE, damage=DAMAGES[how], notes=notes)
            assert answer[:2] == (451, "4.3.0")
            async with asyncio.timeout(10):
                while place.count("mail"):
                    await asyncio.sleep(0.01)
        assert not list(place.out.iterdir())
        assert not list(place.part.staging.iterdir())
        assert place.count("dead") == 0

    async def test_with_an_output_that_is_awaited(self, place: Place) -> None:
        sink = OnceSink()
        async with place.served(sink, settings=Settings(wait_for_all=True)) as local:
            answer = await place.send(local, LARGE, damage=flipped)
            assert answer[:2] == (451, "4.3.0")
            async with asyncio.timeout(10):
                while place.count("mail") or place.count("receipt"):
                    await asyncio.sleep(0.01)
        assert not sink.got
        assert place.count("dead") == 0

    async def test_an_answer_that_was_given_stays_true(self, place: Place) -> None:
        sink = Sink()
        async with place.served(sink) as local:
            assert (await place.send(local, LARGE, damage=flipped)).code == 250
            await place.settled(dead=1)
        assert not sink.got
        assert place.count("mail") == 1


def _no_constraints(place: Place) -> None:
    """The table as SQLite would accept anything."""
    with place.database() as db:
        db.executescript(
            "ALTER TABLE mail RENAME TO old;"
            "CREATE TABLE mail"
            " (seq INTEGER PRIMARY KEY, id, received, parked, attempts, next, envelope, body);"
            "INSERT INTO mail SELECT * FROM old; DROP TABLE old;"
        )


UNREADABLE: dict[str, tuple[str, Any]] = {
    "an envelope that is NULL": ("UPDATE mail SET envelope = NULL", None),
    "an envelope that is a number": ("UPDATE mail SET envelope = 7", None),
    "an envelope that is empty": ("UPDATE mail SET envelope = ''", None),
    "an envelope that is text of no encoding": ("UPDATE mail SET envelope = CAST(X'ff7b' AS TEXT)", None),
    "an id that is another mail's": ("UPDATE mail SET id = '01890a5d-ac96-774b-bcce-b302099a8001'", None),
    "an id that is NULL": ("UPDATE mail SET id = NULL", None),
    "an id that is a blob": ("UPDATE mail SET id = CAST(id AS BLOB)", None),
    "an id of no encoding": ("UPDATE mail SET id = CAST(X'ff' AS TEXT)", None),
    "a body that is text": ("UPDATE mail SET body = CAST(body AS TEXT)", None),
    "a body that is a number": ("UPDATE mail SET body = 12", None),
    "a body of no encoding": ("UPDATE mail SET body = CAST(X'ff' AS TEXT)", None),
    "a body that is gone": ("UPDATE mail SET body = NULL", None),
}


class TestUnreadableRows:
    async def check(self, place: Place, caplog: pytest.LogCaptureFixture) -> None:
        """The row is dead, another mail beside it is delivered, and so it is after a start too."""
        sink = Sink()
        for _ in range(2):
            async with place.served(sink) as local:
                await place.settled(dead=1)
                before = len(sink.got)
                assert (await place.send(local, MAIL + b"whole\r\n")).code == 250
                async with asyncio.timeout(10):
                    while len(sink.got) == before or place.count("mail") > 1:
                        await asyncio.sleep(0.01)
        assert sink.got == [MAIL + b"whole\r\n"] * 2
        assert place.count("mail WHERE parked = 1") == 1
        (record,) = place.records()
        assert record.reason
        assert record.code
        told = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
        assert len(told) == 1, told
        assert "given up" in told[0]
        with closing(place.letters()) as letters:
            shown = letters.show(record)
            assert shown.record == record

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_an_envelope_that_no_code_should_trust(
        self, place: Place, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        await place.wait_in_spool()
        with place.database() as db:
            mail_id, body = db.execute("SELECT id, body FROM mail").fetchone()
        text = HOSTILE[name](envelope_of(MAIL, id=mail_id))
        place.execute("UPDATE mail SET envelope = ?", text)
        caplog.clear()
        await self.check(place, caplog)
        (record,) = place.records()
        assert (record.id, record.key, record.code) == (mail_id, ENVELOPE, "5.6.0")
        with place.database() as db:
            assert db.execute("SELECT envelope, body FROM mail").fetchone() == (text, body)

    @pytest.mark.parametrize("name", UNREADABLE)
    async def test_a_column_that_holds_something_else(
        self, place: Place, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        await place.wait_in_spool()
        _no_constraints(place)
        place.execute(UNREADABLE[name][0])
        caplog.clear()
        await self.check(place, caplog)

    @pytest.mark.parametrize("what", ["gone", "a folder"])
    async def test_a_body_file(self, place: Place, what: str, caplog: pytest.LogCaptureFixture) -> None:
        await place.wait_in_spool(LARGE)
        (path,) = place.part.large.iterdir()
        path.unlink()
        if what == "a folder":
            path.mkdir()
        caplog.clear()
        await self.check(place, caplog)

    @pytest.mark.parametrize("column", ["received", "attempts", "next"])
    @pytest.mark.parametrize("value", ["yesterday", None, b"\xff", 1e300, -1, 2**63 - 1])
    async def test_what_only_counts_holds_no_mail_up(self, place: Place, column: str, value: Any) -> None:
        await place.wait_in_spool()
        _no_constraints(place)
        place.execute(f"UPDATE mail SET {column} = ?", value)
        sink = Sink(DOWN)
        config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{place.folder}"})
        assert sweep_once(config, place.folder, {}).unfinished == 1
        async with place.served(sink) as local:
            local.tick()
            async with asyncio.timeout(10):
                while place.count("mail"):
                    await asyncio.sleep(0.01)
        assert sink.got == [MAIL]
        assert place.count("dead") == 0

    @pytest.mark.parametrize("state", ["'x'", "7", "X'ff'", "CAST(X'ff' AS TEXT)", "''"])
    async def test_an_output_of_unknown_state_is_not_tried_again(
        self, place: Place, state: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        done = Sink()
        async with place.served(done, Sink(*[DOWN] * 9), settings=Settings(first=60)) as local:
            await place.send(local)
            async with asyncio.timeout(10):
                while not place.count("settled"):
                    await asyncio.sleep(0.01)
        place.execute(f"UPDATE settled SET state = {state}")
        caplog.clear()
        await self.check(place, caplog)

    @pytest.mark.parametrize("value", ["x", None, 7])
    async def test_a_mark_that_is_none_does_not_park(self, place: Place, value: Any) -> None:
        await place.wait_in_spool()
        _no_constraints(place)
        place.execute("UPDATE mail SET parked = ?", value)
        sink = Sink()
        async with place.served(sink):
            async with asyncio.timeout(10):
                while place.count("mail"):
                    await asyncio.sleep(0.01)
        assert sink.got == [MAIL]

    @pytest.mark.parametrize("value", ["CAST(id AS BLOB)", "'x'"])
    async def test_the_body_of_a_row_that_does_not_name_it_stays(self, place: Place, value: str) -> None:
        """At a start, files of no known mail are removed; this one may be some mail's only copy."""
        await place.wait_in_spool(LARGE)
        _no_constraints(place)
        place.execute(f"UPDATE mail SET id = {value}")
        async with place.served(Sink()):
            await place.settled(dead=1)
        (path,) = place.part.large.iterdir()
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(LARGE).digest()

    async def test_a_replay_of_a_row_that_was_put_right_is_delivered(self, place: Place) -> None:
        await place.wait_in_spool()
        with place.database() as db:
            (envelope,) = db.execute("SELECT envelope FROM mail").fetchone()
        place.execute("UPDATE mail SET envelope = 'x'")
        sink = Sink()
        async with place.served(sink) as local:
            await place.settled(dead=1)
            place.execute("UPDATE mail SET envelope = ?", envelope)
            with closing(place.letters()) as letters:
                (record,) = letters.list(Selection())
                letters.replay(record, now=True)
            async with asyncio.timeout(10):
                while place.count("mail"):
                    local.tick()
                    await asyncio.sleep(0.01)
        assert sink.got == [MAIL]
        assert place.count("dead") == 0

    async def test_dropping_the_record_drops_the_row(self, place: Place) -> None:
        await place.wait_in_spool()
        place.execute("UPDATE mail SET envelope = 'x'")
        async with place.served(Sink()):
            await place.settled(dead=1)
        with closing(place.letters()) as letters:
            (record,) = letters.list(Selection())
            letters.drop(record)
        assert place.count("mail") == place.count("dead") == 0

    async def test_a_dead_record_that_cannot_be_read_hides_no_other(self, place: Place) -> None:
        await place.wait_in_spool()
        place.execute("UPDATE mail SET envelope = 'x'")
        async with place.served(Sink()):
            await place.settled(dead=1)
        for number, text in enumerate(["no JSON", "{}", "[" * 100_000, b"\xff", 7]):
            place.execute("INSERT INTO dead VALUES (?, 'k', ?)", str(number), text)
        assert len(place.records()) == 1


def test_a_spool_that_was_copied_elsewhere_is_as_good(place: Place, tmp_path: Path) -> None:
    """The hash is of the bytes, not of the place."""

    async def run() -> None:
        await place.wait_in_spool(LARGE)
        shutil.copytree(place.folder, tmp_path / "copy" / "spool")
        other = Place(tmp_path / "copy" / "spool")
        sink = Sink()
        async with other.served(sink):
            async with asyncio.timeout(10):
                while other.count("mail"):
                    await asyncio.sleep(0.01)
        assert sink.got == [LARGE]

    asyncio.run(run())
