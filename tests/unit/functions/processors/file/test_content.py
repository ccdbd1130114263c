"""The bytes of a file with the envelope on top, whatever way they are written."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from functions.errors import Damaged, Temporary
from functions.message.mail import BytesContent, FileContent, Mail
from functions.processors.context import BuildContext
from functions.processors.file.content import FileBytes
from functions.processors.file.output import FileOutputOptions, build
from tests.support.mails.jobs import job_of
from tests.support.mails.spooled import envelope_of
from tests.support.mails.stored import split_block

FORGED = b"X-SMTP-relay-User: root\r\n of all\r\nreturn-path: <eve@attack.example>\r\n"
OWN = b"x-smtp-relay: 3\r\nSubject: x\r\nBcc: carl@example.com\r\n"
BODY = b"\r\nX-smtp-relay-USER: in the body\r\n"


def stored(path: Path | None, content: bytes, **about: Any) -> Mail:
    envelope = envelope_of(content, **about)
    if path is None:
        return Mail(envelope, BytesContent(content))
    path.write_bytes(content)
    return Mail(envelope, FileContent(path, len(content)))


def written(content: FileBytes, path: Path, *, checked: bool = False) -> bytes:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        if checked:
            assert content.write_checked(fd)
        else:
            content.write(fd)
    finally:
        os.close(fd)
    return path.read_bytes()


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("in_memory", [False, True])
def test_each_way_of_writing_makes_the_same_bytes(tmp_path: Path, large: bool, in_memory: bool) -> None:
    body = BODY + (os.urandom(2_000_000) if large else b"")
    mail = stored(None if in_memory else tmp_path / "spooled", FORGED + OWN + FORGED + body)
    content = FileBytes(mail, "in", raw_headers=True)
    plain, checked = written(content, tmp_path / "a"), written(content, tmp_path / "b", checked=True)
    assert plain == checked
    assert len(plain) == content.size == FileBytes(mail, "in", raw_headers=True).size
    fields, below = split_block(plain)
    assert ("X-smtp-relay-ID", mail.id) in fields
    assert below == OWN + body


def test_without_the_option_the_bytes_are_those_of_the_spool(tmp_path: Path) -> None:
    mail = stored(tmp_path / "spooled", FORGED + OWN + BODY)
    content = FileBytes(mail, "in", raw_headers=False)
    assert content.as_spooled
    assert written(content, tmp_path / "a") == FORGED + OWN + BODY


def test_fields_of_a_filter_cannot_pretend_either(tmp_path: Path) -> None:
    notes = {"in": {"headers": [("X-smtp-relay-USER", "root"), ("X-Note", "kept")]}}
    content = FileBytes(stored(None, OWN + BODY, notes=notes), "in", raw_headers=True)
    _, below = split_block(written(content, tmp_path / "a"))
    assert below == b"X-Note: kept\r\n" + OWN + BODY


@pytest.mark.parametrize(
    ("mail", "below"),
    [
        (b"\xef\xbb\xbfX-smtp-relay-USER: root\r\n\r\n", b"\r\n"),
        (b"no header at all", b"\r\nno header at all"),
        (b"", b"\r\n"),
        (b"X-smtp-relay-USER: root\r\n\r\nbody", b"\r\nbody"),
        (b"X-smtp-relay-USER: root", b""),
        (b"A: 1\r\n\xdcber: 2\r\nreturn-path: x\r\n\r\nbody", b"A: 1\r\n\xdcber: 2\r\n\r\nbody"),
        (b"A: 1\nReturn-Path: x\nB: 2\r\n\r\nbody", b"A: 1\nB: 2\r\n\r\nbody"),
    ],
)
def test_odd_mails_stay_below_the_block(tmp_path: Path, mail: bytes, below: bytes) -> None:
    content = FileBytes(stored(None, mail), "in", raw_headers=True)
    assert split_block(written(content, tmp_path / "a"))[1] == below


def test_a_mail_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "spooled"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in (FORGED + OWN + BODY, *(os.urandom(1_000_000) for _ in range(40))):
            file.write(piece)
            digest.update(piece)
    size = path.stat().st_size
    mail = Mail(
        envelope_of(b"").model_copy(update={"size": size, "sha256": digest.hexdigest()}),
        FileContent(path, size),
    )
    tracemalloc.start()
    try:
        out = tmp_path / "a"
        fd = os.open(out, os.O_WRONLY | os.O_CREAT)
        FileBytes(mail, "in", raw_headers=True).write(fd)
        os.close(fd)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    assert out.read_bytes().endswith(path.read_bytes()[len(FORGED) :])


def test_a_damaged_mail_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "spooled"
    mail = stored(path, OWN + BODY)
    path.write_bytes(OWN + BODY[:-1] + b"?")
    with pytest.raises(Damaged):
        written(FileBytes(mail, "in", raw_headers=True), tmp_path / "a")


def test_a_large_mail_becomes_a_copy_because_its_bytes_differ(tmp_path: Path) -> None:
    path = tmp_path / "spooled"
    mail = stored(path, OWN + BODY)
    options = FileOutputOptions(path="out", add_raw_headers=True)
    target = build(options, "file_0", BuildContext.of(tmp_path, {}))
    job = job_of(FileContent(path, mail.envelope.size), envelope=mail.envelope)
    placed = target.process(job)
    placed.fsync()
    placed.cleanup()
    (file,) = (tmp_path / "out").iterdir()
    assert not file.samefile(path)
    assert split_block(file.read_bytes())[1] == OWN + BODY


def test_a_file_whose_sync_failed_gets_the_same_bytes_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = FileOutputOptions(path="out", add_raw_headers=True)
    target = build(options, "file_0", BuildContext.of(tmp_path, {}))
    placed = target.process(job_of(FORGED + OWN + BODY))
    (file,) = (tmp_path / "out").glob("[!.]*")
    before, inode = file.read_bytes(), file.stat().st_ino

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(Temporary):
            placed.fsync()
    placed.fsync()
    placed.cleanup()
    assert (file.read_bytes(), file.stat().st_ino != inode) == (before, True)
    assert [each.name for each in (tmp_path / "out").iterdir()] == [file.name]
