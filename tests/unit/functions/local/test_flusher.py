"""Delivered files on their way to the disk, when syncs fail."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from functions.delivery.engine import Delivery, Output
from functions.local.flusher import MANY, STUCK, Flusher
from functions.local.layout import Part
from functions.local.messages import DoneMail, Finished, Item, Settings, SpoolReply
from functions.local.service import LocalDelivery
from functions.message.mail import BytesContent, Content, FileContent, Mail
from functions.processors.context import BuildContext
from functions.processors.file import placed as landed_files
from functions.processors.file.output import FileOutputOptions, build
from tests.support.mails.spooled import MAIL, envelope_of


class Libc:
    """Fails so many syncfs(2), after it called `lost`."""

    def __init__(self, times: int, lost: Callable[[], object]) -> None:
        self.times = times
        self.lost = lost
        self.real = ctypes.CDLL(None, use_errno=True)

    def syncfs(self, fd: int) -> int:
        if self.times:
            self.times -= 1
            self.lost()
            ctypes.set_errno(errno.EIO)
            return -1
        result: int = self.real.syncfs(fd)
        return result


@asynccontextmanager
async def running(folder: Path, *names: str) -> AsyncIterator[LocalDelivery]:
    part = Part(folder / "part-0")
    part.create()
    context = BuildContext.of(folder, {}, staging=part.staging)
    outputs = [
        Output(name, name, build(FileOutputOptions(path=name, filename="${id}.eml"), name, context))
        for name in names or ("one", "two")
    ]
    local = LocalDelivery(part, Delivery({"in": outputs}), Settings(first=0.05, longest=0.2))
    local.start()
    try:
        yield local
    finally:
        await local.stop(5)


async def send(local: LocalDelivery, large: Path | None = None) -> Mail:
    done: asyncio.Future[SpoolReply] = asyncio.get_running_loop().create_future()
    content = MAIL if large is None else MAIL * 1_000
    envelope = envelope_of(content)
    body: Content = BytesContent(content)
    if large is not None:
        path = large / f"{envelope.id}.eml"
        path.write_bytes(content)
        body = FileContent(path, len(content))
    local.submit(Item(envelope, body, done.set_result))
    assert (await asyncio.wait_for(done, 10)).code == 250
    return Mail(envelope, body)


def rows(folder: Path, query: str = "SELECT count(*) FROM mail") -> int:
    with closing(sqlite3.connect(folder / "part-0" / "spool.db")) as db:
        found: int = db.execute(query).fetchone()[0]
        return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def files(folder: Path) -> list[Path]:
    return [path for name in ("one", "two") for path in (folder / name).glob("[!.]*.eml")]


async def test_all_that_landed_before_a_syncfs_failed_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not known whose pages were lost: those of mails that wait for the next flush may be, too."""
    lost: dict[Path, int] = {}

    def lose() -> None:
        for path in files(tmp_path):
            lost[path] = path.stat().st_ino
            path.write_bytes(b"\0" * path.stat().st_size)

    monkeypatch.setattr(landed_files, "_libc", Libc(2, lose))
    async with running(tmp_path) as local:
        mails = await asyncio.gather(*[send(local) for _ in range(3 * MANY)])
        await until(lambda: rows(tmp_path) == 0)
    assert len(lost) > 2 * MANY
    assert len(files(tmp_path)) == 2 * len(mails)
    for path in files(tmp_path):
        assert path.read_bytes() == MAIL
        assert path.stat().st_ino != lost.get(path)


async def test_the_many_files_of_one_mail_are_synced_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = landed_files._libc.syncfs, []
    alone: list[str] = []

    class Counted:
        def syncfs(self, fd: int) -> int:
            calls.append(Path(f"/proc/self/fd/{fd}").readlink().name)
            result: int = real(fd)
            return result

    monkeypatch.setattr(landed_files, "_libc", Counted())
    monkeypatch.setattr(landed_files, "sync", alone.append)
    names = [f"out-{number}" for number in range(MANY)]
    async with running(tmp_path, *names) as local:
        await send(local)
        await until(lambda: rows(tmp_path) == 0)
    assert sorted(calls) == sorted(names)
    assert alone == []


async def test_a_mail_whose_copy_in_the_spool_is_damaged_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool's copy is gone when the file has to be written anew: a dead record reports it."""
    real, struck = os.fsync, []

    def fsync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.parent == tmp_path / "one" and not struck:
            struck.append(path)
            large = tmp_path / "part-0" / "large" / path.name
            large.write_bytes(b"\0" * large.stat().st_size)
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    async with running(tmp_path) as local:
        mail = await send(local, local.staging.with_name("large"))
        await until(lambda: rows(tmp_path, "SELECT count(*) FROM dead") == 1)
        assert rows(tmp_path, "SELECT count(*) FROM mail WHERE parked = 1") == 1
        assert rows(tmp_path, "SELECT count(*) FROM settled WHERE state = 'done'") == 1
    assert struck
    assert (tmp_path / "two" / f"{mail.id}.eml").read_bytes() == MAIL * 1_000


class Stuck:
    """Places its file on a disk that fails."""

    def fsync(self) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def cleanup(self) -> None: ...


async def test_a_disk_that_fails_does_not_fill_the_memory(tmp_path: Path) -> None:
    from functions.delivery.engine import Outcome, State, Task

    told: list[object] = []
    flusher = Flusher(told.append)
    mail = Mail(envelope_of(), BytesContent(MAIL))
    outcome = Outcome(Task(mail.envelope, "in", None), State.DONE, placed=Stuck())
    flusher.put(Finished([DoneMail(seq, mail, [outcome]) for seq in range(STUCK + 1)]))
    await until(lambda: flusher.stuck)
    flusher.stop()
    assert told == []
