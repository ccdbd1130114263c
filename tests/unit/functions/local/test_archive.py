"""Copies of finished mails in folders: found again, by id, time and path, with their last number."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest

from functions.config import DeliveryConfig
from functions.local.archive import Archive, read_kept
from functions.local.deadletters import open_dead_letters
from functions.local.layout import Part
from functions.message.envelope import Envelope
from functions.message.mail import BytesContent, Mail
from functions.spool.deadletters import KeptSelection
from tests.support.mails.spooled import MAIL, envelope_of

TEMPLATES = [
    "./kept/${id}.eml",
    "kept/fixed.eml",
    "kept/${iso8601}_${id}.eml",
    "kept/${from}.eml",
    "kept/${date:%Y/%m/%d}/${id}.eml",
]


def keep(archive: Archive, envelope: Envelope) -> Envelope:
    archive.keep(Mail(envelope, BytesContent(MAIL)))
    return envelope


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_mail_has_one_copy_which_carries_its_last_replay(tmp_path: Path, template: str) -> None:
    archive = Archive(template, tmp_path, durable=True)
    first, second = keep(archive, envelope_of(age=60)), keep(archive, envelope_of())
    again = keep(archive, first.model_copy(update={"replay": 2}))
    keep(archive, first.model_copy(update={"replay": 1}))
    keep(archive, second)
    found = sorted(archive.copies(), key=lambda one: one.received)
    assert found == [again, second]
    assert len(list((tmp_path / "kept").rglob("*.eml"))) == 2
    path = archive.find(first.id)
    assert path is not None
    assert read_kept(path) == (again, MAIL)
    assert archive.find("nobody") is None


@pytest.mark.parametrize("template", TEMPLATES)
def test_an_absolute_path_is_where_it_says(tmp_path: Path, template: str) -> None:
    """The reference's Kubernetes example keeps below /tmp, where alone it may write."""
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    work.mkdir()
    archive = Archive(f"{elsewhere}/{template}", work, durable=False)
    kept = keep(archive, envelope_of())
    path = archive.find(kept.id)
    assert path is not None
    assert path.is_relative_to(elsewhere / "kept")
    assert list(archive.copies()) == [kept]
    assert list(archive.copies(f"{elsewhere}/kept/")) == [kept]
    assert not list(work.iterdir())


def test_a_folder_above_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    archive = Archive("../kept/${id}.eml", tmp_path / "work", durable=False)
    kept = keep(archive, envelope_of())
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"{kept.id}.eml"]
    assert archive.find(kept.id) is not None


def test_by_time_and_by_path(tmp_path: Path) -> None:
    config = DeliveryConfig.model_validate(
        {"flows": {}, "spool": f"file://{tmp_path}/spool", "cachePath": "kept/${user}/${id}.eml"}
    )
    Part(tmp_path / "spool" / "part-0").create()
    archive = Archive("kept/${user}/${id}.eml", tmp_path, durable=False)
    old = keep(archive, envelope_of(age=7_200, user="ann"))
    new = keep(archive, envelope_of(age=60, user="bob"))
    with closing(open_dead_letters(config, tmp_path, {})) as letters:
        assert list(letters.kept(KeptSelection())) == [old.id, new.id]
        assert list(letters.kept(KeptSelection(since=new.received))) == [new.id]
        assert list(letters.kept(KeptSelection(until=new.received))) == [old.id]
        assert list(letters.kept(KeptSelection(prefix="kept/bob/"))) == [new.id]
        # Asking twice is asking once, as long as it is not delivered.
        assert [letters.replay_kept(old.id, now=False) for _ in range(2)] == [1, 1]
    with closing(Part(tmp_path / "spool" / "part-0").connect()) as db:
        assert db.execute("SELECT count(*) FROM mail").fetchone() == (1,)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_copy_whose_sync_failed_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    """The kernel reports the folder's error once; nothing of that attempt need be on the disk."""
    real, failing = os.fsync, [True]

    def fsync(fd: int) -> None:
        if failing and Path(f"/proc/self/fd/{fd}").readlink().is_dir():
            failing.clear()
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    archive = Archive(template, tmp_path, durable=True)
    envelope = envelope_of()
    with pytest.raises(OSError, match="error"):
        keep(archive, envelope)
    path = archive.find(envelope.id)
    assert path is not None
    before = path.stat().st_ino
    keep(archive, envelope)
    assert path.stat().st_ino != before
    assert read_kept(path) == (envelope, MAIL)
