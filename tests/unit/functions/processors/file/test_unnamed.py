"""Files that get their name once they are whole: in one step, or by another way where there is none."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from functions.errors import Temporary
from functions.message.envelope import FlowNotes
from functions.message.mail import Mail
from functions.processors.context import BuildContext
from functions.processors.file import unnamed
from functions.processors.file.output import FileOutputOptions, FileProcessor, build
from tests.unit.functions.local.test_service import item

TEXT = b"Subject: x\r\n\r\nhello\r\n"


def made(folder: Path, **options: Any) -> FileProcessor:
    return build(FileOutputOptions(path=str(folder), **options), "file_0", BuildContext.of(folder, {}))


def mail() -> Mail:
    one = item(lambda _: None, TEXT)
    return Mail(one.envelope, one.content, received_here=True)


def seen(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_taken_name_gets_a_suffix(tmp_path: Path) -> None:
    output = made(tmp_path, filename="m.eml")
    paths = [output.place(mail(), "in", shared=False) for _ in range(3)]
    assert [Path(path).name for path in paths] == ["m.eml", "m-1.eml", "m-2.eml"]
    assert all(Path(path).read_bytes() == TEXT for path in paths)
    assert seen(tmp_path) == ["m-1.eml", "m-2.eml", "m.eml"]


@pytest.mark.parametrize("raw_headers", [False, True])
def test_a_mail_in_memory_is_stored_as_a_spooled_one(tmp_path: Path, raw_headers: bool) -> None:
    """With the fields of its flow's filters, and of no other's."""
    notes = {"in": FlowNotes(headers=(("X-Mark", "1"),)), "other": FlowNotes(headers=(("X-Mark", "2"),))}
    one = item(lambda _: None, TEXT)
    envelope = one.envelope.model_copy(update={"notes": notes})
    output = made(tmp_path, filename="${id}.eml", addRawHeaders=raw_headers)
    path = Path(output.place(Mail(envelope, one.content, received_here=True), "in", shared=False))
    written = output.begin(Mail(envelope, one.content), "in")
    assert written is not None
    assert path.read_bytes() == Path(written.finish().path).read_bytes()
    assert b"X-Mark: 1\r\n" in path.read_bytes()
    assert path.read_bytes().endswith(TEXT)
    assert b"X-Mark: 2" not in path.read_bytes()


def test_folders_of_the_name_are_made_and_so_is_one_that_was_removed(tmp_path: Path) -> None:
    output = made(tmp_path / "mails", filename="${user}/a/${id}.eml")
    for _ in range(2):
        path = Path(output.place(mail(), "in", shared=False))
        assert path.read_bytes() == TEXT
        path.unlink()
        path.parent.rmdir()
        path.parent.parent.rmdir()
    (tmp_path / "mails").rmdir()
    assert Path(output.place(mail(), "in", shared=False)).read_bytes() == TEXT


def test_a_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    os.umask(mask)
    path = Path(made(tmp_path).place(mail(), "in", shared=False))
    assert path.stat().st_mode & 0o777 == 0o644 & ~mask


@pytest.mark.parametrize("step", ["open", "link"])
def test_a_file_system_without_such_files_gets_them_in_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    output, real = made(tmp_path, filename="m.eml"), getattr(os, step)
    asked = 0

    def lacking(path: Any, *rest: Any, **more: Any) -> Any:
        nonlocal asked
        if (step == "open" and rest and rest[0] & os.O_TMPFILE == os.O_TMPFILE) or more.get("src_dir_fd"):
            asked += 1
            raise OSError(errno.EOPNOTSUPP if step == "open" else errno.EXDEV, "not here")
        return real(path, *rest, **more)

    monkeypatch.setattr(os, step, lacking)
    for _ in range(2):
        assert Path(output.place(mail(), "in", shared=False)).read_bytes() == TEXT
    assert asked == 1
    assert seen(tmp_path) == ["m-1.eml", "m.eml"]


def test_a_name_that_is_there_counts_whatever_the_error_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def lying(*rest: Any, **more: Any) -> None:
        real(*rest, **more)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", lying)
    made(tmp_path, filename="m.eml").place(mail(), "in", shared=False)
    assert seen(tmp_path) == ["m.eml"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.EROFS])
@pytest.mark.parametrize("step", ["open", "write", "link"])
def test_a_disk_that_fails_leaves_nothing_and_the_mail_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    output, real = made(tmp_path), getattr(os, step)

    def failing(path: Any, *rest: Any, **more: Any) -> Any:
        if step != "open" or rest[0] & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(code, os.strerror(code))
        return real(path, *rest, **more)

    with monkeypatch.context() as broken:
        broken.setattr(os, step, failing)
        with pytest.raises(Temporary):
            output.place(mail(), "in", shared=False)
    assert seen(tmp_path) == []
    output.place(mail(), "in", shared=False)
    assert len(seen(tmp_path)) == 1


def test_without_proc_the_other_way_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unnamed, "_SUPPORTED", False)
    assert Path(made(tmp_path).place(mail(), "in", shared=False)).read_bytes() == TEXT
    assert len(seen(tmp_path)) == 1
