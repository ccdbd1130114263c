"""Retention: the oldest files of an output go, once their mails have left the spool, and no others."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from functions.config import DeliveryConfig
from functions.delivery.engine import Delivery, Output
from functions.errors import Permanent, Temporary
from functions.ids import uuid7
from functions.local.deadletters import open_dead_letters
from functions.local.layout import Part
from functions.local.messages import Item, Settings, SpoolReply
from functions.local.retention import cleaner, listing
from functions.local.retention.listing import NAME, FileList
from functions.local.service import LocalDelivery
from functions.message.envelope import Client, Envelope, Recipient
from functions.message.mail import BytesContent, FileContent
from functions.processors.base import FolderLimit, Job, Placed, Processor
from functions.processors.context import BuildContext
from functions.processors.file.output import FileOutputOptions, build
from functions.processors.file.owned import Look, OwnedFile
from functions.spool.deadletters import Selection


class Sink(Processor):
    """An output that needs a mail until it is `open`."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def process(self, job: Job) -> Placed | None:
        if not self.open.is_set():
            raise Temporary("not yet")
        return None


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaner, "GATHER", 0.01)
    monkeypatch.setattr(cleaner, "SHARE", 1)
    monkeypatch.setattr(cleaner, "PENDING", 0.05)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


class Site:
    """A spool and an output's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self.out = folder / "out"

    def output(self, *, part: int = 0, **options: Any) -> Output:
        options = {"path": "out", "filename": "${subject}.eml", **options}
        staging = self.spool / f"part-{part}" / "staging"
        staging.mkdir(parents=True, exist_ok=True)
        made = FileOutputOptions.model_validate(options)
        processor = build(made, "file_0", BuildContext.of(self.folder, {}, staging=staging))
        return Output("file_0", made.identity(), processor)

    @asynccontextmanager
    async def running(
        self, *more: Processor, part: int = 0, durable: bool = True, **options: Any
    ) -> AsyncIterator[LocalDelivery]:
        outputs = [self.output(part=part, **options)]
        outputs += [Output(f"test_{i}", f"identity-{i}", one) for i, one in enumerate(more)]
        # One thread stores the files in the order in which the mails were sent.
        settings = Settings(durable=durable, first=0.05, longest=0.1, threads=1)
        local = LocalDelivery(Part(self.spool / f"part-{part}"), Delivery({"in": outputs}), settings)
        local.start()
        try:
            yield local
        finally:
            await local.stop(5)

    async def send(self, local: LocalDelivery, *subjects: str, size: int = 0, large: bool = False) -> None:
        """One mail after the other, each stored and answered."""
        for subject in subjects:
            done: asyncio.Future[SpoolReply] = asyncio.get_running_loop().create_future()
            data = f"Subject: {subject}\r\n\r\n".encode().ljust(size, b"x")
            envelope = Envelope(
                id=uuid7(),
                session="s",
                received=time.time_ns() // 1_000_000,
                reverse_path="a@b.example",
                recipients=(Recipient(address="one@x.example", flows=("in",)),),
                client=Client(ip="192.0.2.1"),
                size=len(data),
            )
            content: Any = BytesContent(data)
            if large:
                path = local._part.large / f"{envelope.id}.eml"
                path.write_bytes(data)
                content = FileContent(path, len(data))
            local.submit(Item(envelope, content, done.set_result))
            assert (await asyncio.wait_for(done, 10)).code == 250

    def names(self) -> list[str]:
        return sorted(path.name.removesuffix(".eml") for path in self.out.iterdir())

    async def left(self, *names: str) -> None:
        """Wait until the folder has these mails, and nothing is left to do."""
        end = time.monotonic() + 10
        while self.names() != sorted(names) or self.unlisted() or self.spooled():
            assert time.monotonic() < end, (self.names(), self.unlisted(), self.listed())
            await asyncio.sleep(0.01)

    def unlisted(self) -> int:
        """Files that are not yet on the list."""
        found = 0
        for part in self.spool.glob("part-*"):
            with closing(sqlite3.connect(part / "spool.db")) as db:
                try:
                    found += db.execute("SELECT count(*) FROM placed_file").fetchone()[0]
                except sqlite3.OperationalError:
                    continue
        return found

    def spooled(self) -> int:
        """Mails in the spool."""
        found = 0
        for part in self.spool.glob("part-*"):
            with closing(sqlite3.connect(part / "spool.db")) as db:
                found += db.execute("SELECT count(*) FROM mail").fetchone()[0]
        return found

    def listed(self) -> list[str]:
        with closing(sqlite3.connect(self.spool / NAME)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'file'").fetchone():
                return []
            return [os.fsdecode(row[0])[:-4] for row in db.execute("SELECT name FROM file ORDER BY n")]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("large", [True, False])
async def test_the_newest_mails_stay(site: Site, durable: bool, large: bool) -> None:
    async with site.running(durable=durable, retention={"count": 3}) as local:
        await site.send(local, *"abcdefgh", large=large)
        await site.left("f", "g", "h")
        await site.send(local, "i", large=large)
        await site.left("g", "h", "i")
        assert site.listed() == ["g", "h", "i"]


async def test_the_bytes_of_the_mails_are_limited(site: Site) -> None:
    async with site.running(retention={"bytes": 2_500}) as local:
        await site.send(local, *"abcde", size=1_000)
        await site.left("d", "e")
        await site.send(local, "f", size=2_400)
        await site.left("f")


async def test_without_the_option_nothing_is_recorded_or_removed(site: Site) -> None:
    async with site.running() as local:
        await site.send(local, *"abc")
    assert site.names() == ["a", "b", "c"]
    assert site.unlisted() == 0
    assert not (site.spool / NAME).exists()


async def test_mails_from_before_the_option_stay(site: Site) -> None:
    async with site.running() as local:
        await site.send(local, *"abc")
    async with site.running(retention={"count": 1}) as local:
        await site.send(local, *"xyz")
        await site.left("a", "b", "c", "z")


async def test_mails_from_before_the_option_was_switched_on_again_stay(site: Site) -> None:
    async with site.running(retention={"count": 9}) as local:
        await site.send(local, *"abc")
        await site.left("a", "b", "c")
    async with site.running() as local:
        await site.send(local, "d")
        await until(lambda: site.listed() == [])
    async with site.running(retention={"count": 1}) as local:
        await site.send(local, *"xy")
        await site.left("a", "b", "c", "d", "y")


async def test_files_of_users_stay_whatever_their_names(site: Site) -> None:
    async with site.running(retention={"count": 1}) as local:
        await site.send(local, *"abc")
        await site.left("c")
        for name in ("a.eml", "b.eml", "notes.txt"):
            (site.out / name).write_bytes(b"a user's")
        (site.out / "folder").mkdir()
        await site.send(local, *"de")
        await site.left("a", "b", "e", "folder", "notes.txt")


def other_files() -> dict[str, Callable[[Path], object]]:
    def moved_over(path: Path) -> None:
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        other.replace(path)

    return {
        "another file of the same size and time": moved_over,
        "edited in place": lambda path: path.write_bytes(path.read_bytes()[::-1]),
        "touched": os.utime,
        "a link to a user's file": lambda path: (path.unlink(), path.symlink_to("../precious")),
        "a hard link to a user's file": lambda path: (path.unlink(), path.hardlink_to("precious")),
        "a folder": lambda path: (path.unlink(), path.mkdir()),
    }


@pytest.mark.parametrize("change", other_files().values(), ids=other_files())
async def test_a_file_that_is_not_as_it_was_placed_stays(
    site: Site, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = site.folder / "precious"
    precious.write_bytes(b"a user's")
    async with site.running(retention={"count": 2}) as local:
        await site.send(local, *"ab")
        await site.left("a", "b")
        monkeypatch.chdir(site.folder)
        change(site.out / "a.eml")
        await site.send(local, *"cde")
        await site.left("a", "d", "e")
    assert precious.read_bytes() == b"a user's"


@pytest.mark.parametrize(
    "place", ["a link to another folder", "another folder", "a link to itself moved away"]
)
async def test_a_folder_that_is_not_the_one_of_the_mails_is_left_alone(site: Site, place: str) -> None:
    async with site.running(retention={"count": 2}) as local:
        await site.send(local, *"ab")
        await site.left("a", "b")
        other = site.folder / "elsewhere"
        if place == "another folder":
            site.out.rename(site.folder / "old")
            site.out.mkdir()
        elif place == "a link to another folder":
            site.out.rename(site.folder / "old")
            other.mkdir()
            site.out.symlink_to(other)
        else:
            site.out.rename(other)
            site.out.symlink_to(other)
            other = site.folder / "none"
        for name in "ab":
            (site.out / f"{name}.eml").write_bytes(b"a user's")
        await site.send(local, *"cdef")
        await asyncio.sleep(0)
        await site.left(*("abef" if place == "another folder" else "abcdef"))
        assert (site.out / "a.eml").read_bytes() == b"a user's"
        old = site.folder / "old"
        assert not old.exists() or sorted(path.name for path in old.iterdir()) == ["a.eml", "b.eml"]


async def test_a_link_within_the_folder_that_leads_out_of_it_is_left_alone(site: Site) -> None:
    elsewhere = site.folder / "elsewhere"
    elsewhere.mkdir()
    site.out.mkdir()
    (site.out / "sub").symlink_to(elsewhere)
    async with site.running(retention={"count": 1}, filename="sub/${subject}.eml") as local:
        await site.send(local, *"abc")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["a.eml", "b.eml", "c.eml"]


async def test_folders_below_are_looked_after(site: Site) -> None:
    async with site.running(retention={"count": 2}, filename="${subject}/mail.eml") as local:
        await site.send(local, *"abcd")
        async with asyncio.timeout(10):
            while sorted(path.parent.name for path in site.out.glob("*/*")) != ["c", "d"]:
                await asyncio.sleep(0.01)
    assert (site.out / "a").is_dir()


async def test_files_that_others_removed_do_not_count(site: Site) -> None:
    async with site.running(retention={"count": 3}) as local:
        await site.send(local, *"abc")
        await site.left("a", "b", "c")
        (site.out / "b.eml").unlink()
        (site.out / "c.eml").unlink()
        await site.send(local, *"de")
        await site.left("a", "d", "e")
        await site.send(local, "f")
        await site.left("d", "e", "f")


async def test_a_name_that_is_used_again_belongs_to_the_new_mail(site: Site) -> None:
    async with site.running(retention={"count": 2}) as local:
        await site.send(local, "same", "b")
        await site.left("b", "same")
        (site.out / "same.eml").unlink()
        await asyncio.sleep(0.03)  # until the folder tries the name again
        await site.send(local, "same")
        await site.left("b", "same")
        await site.send(local, "c")
        await site.left("c", "same")


async def test_a_mail_that_another_output_needs_keeps_its_file(site: Site) -> None:
    sink = Sink()
    async with site.running(sink, retention={"count": 1}) as local:
        await site.send(local, *"abc")
        await until(lambda: site.unlisted() == 3)
        await asyncio.sleep(0.2)
        assert site.names() == ["a", "b", "c"]
        sink.open.set()
        await until(lambda: len(site.names()) == 1 and not site.unlisted())


async def test_a_file_that_was_removed_is_never_written_again(site: Site) -> None:
    sink = Sink()
    async with site.running(sink, retention={"count": 1}) as local:
        sink.open.set()
        await site.send(local, *"ab")
        await site.left("b")
    for _ in range(2):
        async with site.running(sink, retention={"count": 1}) as local:
            await site.left("b")
            assert local._part.waiting(local._commits.store.db) == []


async def test_a_dropped_mail_lets_its_file_go(site: Site) -> None:
    class Never(Processor):
        def process(self, job: Job) -> Placed | None:
            raise Permanent("never")

    async with site.running(Never(), retention={"count": 1}) as local:
        await site.send(local, *"ab")
        await until(lambda: site.unlisted() == 2)
        assert site.names() == ["a", "b"]
        config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{site.spool}"})
        with closing(open_dead_letters(config, site.folder, {})) as letters:
            # The list has files as they were dropped, and ids of one millisecond come in any order.
            for record in sorted(letters.list(Selection()), key=lambda one: letters.show(one).head):
                letters.drop(record)
        await site.left("b")


async def test_rows_of_an_earlier_process_wait_for_no_mail_of_this_one(site: Site) -> None:
    sink = Sink()
    async with site.running(sink, retention={"count": 1}) as local:
        await site.send(local, *"ab")
        await until(lambda: site.unlisted() == 2)
    with closing(sqlite3.connect(site.spool / "part-0" / "spool.db", isolation_level=None)) as db:
        db.execute("DELETE FROM mail")
    async with site.running(sink, retention={"count": 1}) as local:
        await until(lambda: len(site.names()) == 1 and not site.unlisted())
        (stays,) = site.names()
        await site.send(local, "c")  # it gets the number of the first
        await until(lambda: site.unlisted() == 1)
    assert site.names() == [stays, "c"]


async def test_several_parts_share_the_folder_and_its_limit(site: Site) -> None:
    async with (
        site.running(part=0, retention={"count": 4}) as first,
        site.running(part=1, retention={"count": 4}) as second,
    ):
        for pair in ("ab", "cd", "ef", "gh"):
            await site.send(first, pair[0])
            await site.send(second, pair[1])
            await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            while len(site.names()) != 4 or site.unlisted():
                await asyncio.sleep(0.01)
        assert set(site.names()) & set("abcd") == set()


async def test_two_workers_at_once_remove_no_more_than_one_would(site: Site) -> None:
    subjects = [str(n) for n in range(10)]
    async with site.running(retention={"count": 10}) as local:
        await site.send(local, *subjects)
        await site.left(*subjects)
    limit = FolderLimit(os.fsencode(os.path.realpath(site.out)), 4, None, None)
    with closing(FileList(site.spool)) as one, closing(FileList(site.spool)) as other:
        work = cleaner._Work(site.spool, Part(site.spool / "part-0").connect, lambda _: None)
        seen: list[bytes] = []

        class Met(Look):
            """When it has looked at all files, the other worker removes some."""

            def is_there(self, file: OwnedFile) -> bool:
                found = super().is_there(file)
                seen.append(file.name)
                if len(seen) == len(subjects):
                    work._remove_excess(other, Look(), limit)
                return found

        work._remove_excess(one, Met(), limit)
    assert len(seen) >= len(subjects)
    assert site.names() == subjects[-4:]


async def test_two_flows_share_the_folder_and_its_limit(site: Site) -> None:
    made = {
        "in": [site.output(retention={"count": 2})],
        "b": [site.output(retention={"count": 2}, filename="b-${subject}.eml")],
    }
    async with site.running(retention={"count": 2}) as local:
        local.replace(Delivery(made), local.settings)
        for subject, flow in (("1", "in"), ("2", "b"), ("3", "in"), ("4", "b")):
            done: asyncio.Future[SpoolReply] = asyncio.get_running_loop().create_future()
            data = f"Subject: {subject}\r\n\r\n".encode()
            envelope = Envelope(
                id=uuid7(), session="s", received=1, reverse_path="", size=len(data),
                recipients=(Recipient(address="one@x.example", flows=(flow,)),),
                client=Client(ip="192.0.2.1"),
            )  # fmt: skip
            local.submit(Item(envelope, BytesContent(data), done.set_result))
            await asyncio.wait_for(done, 10)
        await site.left("3", "b-4")


class Clock:
    """The clocks of this process, which a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.own = 0.0
        real, up = time.time, listing.uptime
        self.boot = "1"
        monkeypatch.setattr(time, "time", lambda: real() + self.wall)
        monkeypatch.setattr(listing, "uptime", lambda: up() + self.own)
        monkeypatch.setattr(listing, "boot_id", lambda: self.boot)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def again(site: Site, local: LocalDelivery, subject: str) -> None:
    """Another mail, and the round that it causes."""
    await site.send(local, subject)
    await until(lambda: subject in site.listed())
    thread = local._commits.retention._work
    before = thread.durable
    await asyncio.sleep(0.1)
    assert thread.durable == before


async def test_age_takes_both_clocks_and_the_files_own_time(site: Site, clock: Clock) -> None:
    async with site.running(retention={"age": "1000s"}) as local:
        await again(site, local, "a")
        clock.wall = 5_000  # the wall clock jumps ahead
        await again(site, local, "b")
        assert site.names() == ["a", "b"]
        clock.wall, clock.own = 0, 5_000  # it goes back, and time passes
        await again(site, local, "c")
        assert site.names() == ["a", "b", "c"]
        clock.wall = 1_500  # now both say so of the first, and of its file
        await again(site, local, "d")
        await site.left("b", "c", "d")


async def test_a_clock_that_jumps_while_the_server_is_stopped_empties_no_folder(
    site: Site, clock: Clock
) -> None:
    async with site.running(retention={"age": "1000s"}) as local:
        await again(site, local, "a")
    clock.wall = 1e8
    async with site.running(retention={"age": "1000s"}) as local:
        await again(site, local, "b")
        assert site.names() == ["a", "b"]
    clock.own = 2_000  # the machine was on all the time
    async with site.running(retention={"age": "1000s"}) as local:
        await again(site, local, "c")
        assert "a" not in site.names()


async def test_a_restart_of_the_machine_counts_for_half_a_day(site: Site, clock: Clock) -> None:
    async with site.running(retention={"age": "100000s"}) as local:
        await again(site, local, "a")
    clock.wall, clock.boot = 1e8, "2"
    with closing(FileList(site.spool)) as files:
        assert files.measured() < listing.uptime() + listing.RESTART + 60


async def test_a_damaged_list_is_replaced_and_its_files_stay(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.running(retention={"count": 2}) as local:
        await site.send(local, *"ab")
        await site.left("a", "b")
    (site.spool / NAME).write_bytes(b"no database" * 1_000)
    async with site.running(retention={"count": 2}) as local:
        await site.send(local, *"cde")
        await site.left("a", "b", "d", "e")
    assert "retention failed" in caplog.text


async def test_a_file_that_cannot_be_removed_holds_up_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.unlink

    def unlink(path: Any, **options: Any) -> None:
        if path == b"a.eml":
            raise PermissionError(1, "Operation not permitted", path)
        real(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    async with site.running(retention={"count": 2}) as local:
        await site.send(local, *"abcdef")
        await site.left("a", "e", "f")
        told = [getattr(record, "reason", "") for record in caplog.records]
        assert sum("Operation not permitted" in reason for reason in told) == 1
        monkeypatch.setattr(os, "unlink", real)
        await site.send(local, "g")
        await site.left("f", "g")


async def test_more_files_than_one_step_takes_go_and_one_that_cannot_be_removed_ends_no_round(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaner, "BATCH", 2)
    real = os.unlink

    def unlink(path: Any, **options: Any) -> None:
        if path == b"a.eml":
            raise PermissionError(1, "Operation not permitted", path)
        real(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    async with site.running(retention={"count": 9}) as local:
        await site.send(local, *"abcdefghi")
        await site.left(*"abcdefghi")
    async with site.running(retention={"count": 2, "age": "1s"}) as local:
        await site.left("a")
        await site.send(local, "j")
        await site.left("a", "j")
        await site.left("a")


@pytest.mark.parametrize("fails", ["the list is full", "the part refuses"])
async def test_a_failure_is_tried_again_and_no_mail_waits_for_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    broken = threading.Event()
    broken.set()
    real_add, real_free = FileList.add, cleaner.free

    def add(self: FileList, records: Any) -> None:
        if broken.is_set() and fails == "the list is full":
            raise sqlite3.OperationalError("database or disk is full")
        real_add(self, records)

    def free(*args: Any) -> Any:
        if broken.is_set() and fails == "the part refuses":
            raise sqlite3.OperationalError("a sync failed")
        return real_free(*args)

    monkeypatch.setattr(FileList, "add", add)
    monkeypatch.setattr(cleaner, "free", free)
    async with site.running(retention={"count": 1}) as local:
        await site.send(local, *"abc")
        assert site.names() == ["a", "b", "c"]
        broken.clear()
        await site.left("c")
