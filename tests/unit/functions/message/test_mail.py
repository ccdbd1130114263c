"""Stored content: whole content reads unchanged, damaged content ends before its last byte."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.errors import Damaged, Temporary
from functions.message.mail import CHUNK, BytesContent, CheckedContent, Content, FileContent, Mail, is_whole
from functions.processors.store import PrefixedFile
from tests.support.mails.damage import DAMAGES
from tests.support.mails.spooled import MAIL, envelope_of

BODY = MAIL + b"0123456789abcdef\r\n" * 40_000


@pytest.fixture(params=["memory", "file"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def content_of(kind: str, folder: Path, data: bytes) -> Content:
    if kind == "memory":
        return BytesContent(data)
    path = folder / "body"
    path.write_bytes(data)
    return FileContent(path, len(data))


def read_on(got: bytearray, stream: BinaryIO, size: int) -> None:
    """Read the rest, so many bytes at a time."""
    while piece := stream.read(size):
        got += piece


def read_into(got: bytearray, mail: Mail, size: int) -> None:
    with mail.content.open() as stream:
        read_on(got, stream, size)


@pytest.mark.parametrize("data", [b"", b"x", MAIL, BODY, b"y" * CHUNK, b"z" * (2 * CHUNK)])
def test_what_is_whole_reads_as_it_is(tmp_path: Path, kind: str, data: bytes) -> None:
    envelope = envelope_of(data)
    content = content_of(kind, tmp_path, data)
    assert is_whole(envelope, content)
    mail = Mail(envelope, content)
    mail.check()
    assert mail.raw("in") == b"".join(mail.chunks("in")) == mail.content.read() == data
    with mail.content.open() as stream:
        assert stream.read(7) == data[:7]
        stream.seek(0)
        assert stream.read() == data
        assert stream.read() == b""


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("data", [MAIL, BODY], ids=["small", "large"])
def test_what_is_not_is_never_read_to_its_end(tmp_path: Path, kind: str, how: str, data: bytes) -> None:
    envelope = envelope_of(data)
    damaged = DAMAGES[how](data)
    assert not is_whole(envelope, content_of(kind, tmp_path, damaged))
    for size in (1_000_000, 4_096, None):
        mail = Mail(envelope, content_of(kind, tmp_path, damaged))
        got = bytearray()
        with pytest.raises(Damaged):
            read_into(got, mail, size or -1)
        assert len(got) < max(len(damaged), 1)
        with pytest.raises(Damaged):
            mail.raw("in")
        with pytest.raises(Damaged):
            mail.check()
        assert mail.content.path is None, "nobody links it"
    with pytest.raises(Damaged, match="the stored mail is damaged"):
        Mail(envelope, content_of(kind, tmp_path, damaged)).check()


def test_what_this_process_received_is_held_against_its_size_until_it_is_read(tmp_path: Path) -> None:
    envelope = envelope_of(BODY)
    flipped = Mail(envelope, content_of("file", tmp_path, DAMAGES["a bit flipped"](BODY)), received_here=True)
    flipped.check()
    with pytest.raises(Damaged):
        list(flipped.chunks("in"))
    with pytest.raises(Damaged):
        flipped.check()
    short = Mail(envelope, content_of("file", tmp_path, BODY[:-1]), received_here=True)
    with pytest.raises(Damaged):
        short.check()
    in_memory = BytesContent(MAIL)
    assert Mail(envelope_of(MAIL), in_memory, received_here=True).content is in_memory


@pytest.mark.parametrize("received_here", [True, False])
def test_a_file_that_is_gone_and_one_that_cannot_be_looked_at(tmp_path: Path, received_here: bool) -> None:
    gone = Mail(envelope_of(), FileContent(tmp_path / "gone", len(MAIL)), received_here=received_here)
    with pytest.raises(Damaged, match="its file is gone"):
        gone.check()
    (tmp_path / "file").write_bytes(MAIL)
    below = FileContent(tmp_path / "file" / "x", len(MAIL))
    with pytest.raises(Temporary, match="cannot be read"):
        Mail(envelope_of(), below, received_here=received_here).check()


@pytest.mark.parametrize("told", ["", None])
def test_without_a_hash_the_size_alone_counts(tmp_path: Path, kind: str, told: str | None) -> None:
    envelope = envelope_of(MAIL, sha256="")
    assert Mail(envelope, content_of(kind, tmp_path, b"x" * len(MAIL))).raw("in")
    with pytest.raises(Damaged):
        Mail(envelope, content_of(kind, tmp_path, MAIL[1:])).raw("in")


def test_the_case_of_the_hash_is_not_the_mail(tmp_path: Path, kind: str) -> None:
    envelope = envelope_of(MAIL)
    shouted = envelope.model_copy(update={"sha256": envelope.sha256.upper()})
    assert Mail(shouted, content_of(kind, tmp_path, MAIL)).raw("in") == MAIL


@pytest.mark.parametrize("change", ["flipped", "shorter", "longer"])
def test_what_changes_while_it_is_read(tmp_path: Path, change: str) -> None:
    mail = Mail(envelope_of(BODY), content_of("file", tmp_path, BODY))
    mail.check()
    with mail.content.open() as stream:
        got = bytearray(stream.read(10))
        with (tmp_path / "body").open("r+b") as file:
            if change == "shorter":
                file.truncate(len(BODY) // 2)
            else:
                file.seek(-3 if change == "flipped" else 0, io.SEEK_END)
                file.write(b"?")
        with pytest.raises(Damaged):
            read_on(got, stream, 100_000)
    assert len(got) <= len(BODY) - (change != "longer")


@given(
    st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 700_000), st.integers(1, 400_000)), max_size=8)
)
def test_below_a_prefix_wherever_it_is_read(prefix: bytes, reads: list[tuple[int, int]]) -> None:
    """As SDKs do: to the end, back to the start, and pieces from anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        mail = Mail(envelope_of(BODY), content_of("file", Path(folder), BODY))
        whole = prefix + BODY
        with PrefixedFile(prefix, mail.content.open()) as stream:
            for at, size in reads:
                stream.seek(at)
                assert stream.read(size) == whole[at : at + size]
            for _ in range(2):
                stream.seek(0)
                assert stream.read() == whole
        damaged = Mail(envelope_of(BODY), content_of("file", Path(folder), DAMAGES["a bit flipped"](BODY)))
        with PrefixedFile(prefix, damaged.content.open()) as stream, pytest.raises(Damaged):
            stream.read()


def test_checked_content_is_as_large_as_what_it_holds(tmp_path: Path, kind: str) -> None:
    content = content_of(kind, tmp_path, MAIL)
    checked = CheckedContent(envelope_of(), content)
    assert (checked.size, checked.path) == (content.size, content.path)
