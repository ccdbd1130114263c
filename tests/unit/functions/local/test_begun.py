"""Outputs that are begun while a thread makes their mails durable, and finished after it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from functions.delivery.engine import Delivery, Output
from functions.local.layout import Part
from functions.local.messages import Item, Settings, SpoolReply
from functions.local.service import LocalDelivery
from functions.processors.base import Begun, Processor
from functions.processors.context import BuildContext
from functions.processors.file import placing
from functions.processors.file.output import FileOutputOptions, build
from functions.processors.log import LogOutputOptions, LogProcessor
from tests.unit.functions.local.test_service import Sink, item, rows, until

Done = Callable[[OSError | None], object]
TEXT = b"Subject: x\r\n\r\nhello\r\n"


class Place:
    """A durable part whose syncs wait until the test lets them end."""

    def __init__(self, folder: Path, *others: Processor, **settings: Any) -> None:
        self.folder = folder
        self.mails = folder / "mails"
        self.staging = folder / "part-0" / "staging"
        self.staging.mkdir(parents=True, exist_ok=True)
        context = replace(BuildContext.of(folder, {}), staging=self.staging)
        file = build(FileOutputOptions(path=str(self.mails), filename="${id}.eml"), "file_0", context)
        made = [Output(f"test_{i}", f"identity-{i}", one) for i, one in enumerate((file, *others))]
        given = Settings(**{"first": 0.05, "longest": 0.2, **settings})
        self.local = LocalDelivery(Part(folder / "part-0"), Delivery({"in": made}), given)
        self.answers: list[SpoolReply] = []
        self.local.start()
        self.store: Any = self.local._commits.store
        self.sync = self.store.sync
        self.held: list[Done] = []
        self.store.sync = self.held.append

    async def submit(self, content: bytes | Path = TEXT) -> Item:
        """Send a mail, and wait until its sync begins."""
        one = item(self.answers.append, content)
        self.local.submit(one)
        await until(lambda: bool(self.held))
        return one

    def temporaries(self) -> list[str]:
        return [path.read_bytes().decode() for path in self.staging.iterdir()]

    def stored(self) -> list[str]:
        return [path.name for path in self.mails.iterdir()]

    def end_sync(self, error: OSError | None = None) -> None:
        """The sync ends, and later ones do not wait."""
        self.store.sync = self.sync
        self.held.pop()(error)

    async def delivered(self, one: Item) -> None:
        """The client has its 250, there is one file, and nothing else is left."""
        await until(lambda: bool(self.answers) and rows(self.folder) == 0 and not self.temporaries())
        assert [answer.code for answer in self.answers] == [250]
        assert self.stored() == [f"{one.envelope.id}.eml"]
        assert (self.mails / self.stored()[0]).read_bytes() == TEXT
        await self.local.stop(5)


async def test_the_file_is_written_during_the_sync_and_gets_its_name_after_it(tmp_path: Path) -> None:
    place = Place(tmp_path, LogProcessor(LogOutputOptions(), "log_1"))
    one = await place.submit()
    assert place.temporaries() == [TEXT.decode()]
    assert place.stored() == []
    assert place.answers == []
    place.end_sync()
    await until(lambda: bool(place.answers))
    assert place.answers[0].files == [str(place.mails / f"{one.envelope.id}.eml")]
    await place.delivered(one)


async def test_nothing_is_left_of_a_mail_whose_sync_failed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.submit()
    place.end_sync(OSError(errno.EIO, "the disk is broken"))
    await until(lambda: bool(place.answers))
    assert [answer.code for answer in place.answers] == [451]
    assert place.temporaries() == []
    await until(lambda: place.local.healthy and rows(tmp_path) == 0)
    assert place.stored() == []
    await place.local.stop(5)


async def test_nothing_is_left_of_a_mail_that_was_answered_too_late(tmp_path: Path) -> None:
    place = Place(tmp_path, wait=0.0)
    one = await place.submit()
    place.local.tick()
    assert one.settled
    place.end_sync()
    await until(lambda: rows(tmp_path) == 0)
    assert [answer.code for answer in place.answers] == [451]
    assert place.temporaries() == place.stored() == []
    await place.local.stop(5)


async def test_a_folder_that_is_removed_during_the_sync_is_made_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    one = await place.submit()
    shutil.rmtree(place.mails)
    place.end_sync()
    await place.delivered(one)


async def test_a_file_that_cannot_be_written_during_the_sync_is_written_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    with monkeypatch.context() as patched:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(placing.TargetFolder, "_write_new", full)
        one = await place.submit()
    place.end_sync()
    await place.delivered(one)


async def test_a_temporary_that_is_gone_after_the_sync_is_written_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    one = await place.submit()
    for path in place.staging.iterdir():
        path.unlink()
    place.end_sync()
    await place.delivered(one)


async def test_a_crash_during_the_sync_leaves_one_file(tmp_path: Path) -> None:
    place = Place(tmp_path)
    one = await place.submit()
    place.local._schedule.cancel()
    place.store.abandon()  # nothing else is written: the process is gone
    assert place.temporaries() == [TEXT.decode()]
    again = Place(tmp_path)
    again.store.sync = again.sync
    await until(lambda: rows(tmp_path) == 0 and not again.temporaries())
    assert again.stored() == [f"{one.envelope.id}.eml"]
    await again.local.stop(5)


async def test_a_fault_in_the_first_half_is_told_by_the_attempt(tmp_path: Path) -> None:
    class Broken(Sink):
        quick = True

        def begin(self, *_: object) -> Begun | None:
            raise ValueError("a fault")

    sink = Broken()
    place = Place(tmp_path, sink)
    one = await place.submit()
    place.end_sync()
    await place.delivered(one)
    assert sink.calls == 1


async def test_a_large_mail_is_not_begun(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (large := place.folder / "part-0" / "large" / "x.eml").write_bytes(TEXT)
    one = await place.submit(large)
    assert place.temporaries() == []
    assert one.begun is None
    place.end_sync()
    await until(lambda: bool(place.answers) and rows(tmp_path) == 0)
    assert len(place.stored()) == 1
    await place.local.stop(5)
