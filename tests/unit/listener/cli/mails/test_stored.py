"""The stored mails, as commands see them: who is believed, and what anything else in a folder shows as."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.config import DeliveryConfig
from functions.errors import ConfigError
from listener.cli.mails.folders import folders_of
from listener.cli.mails.stored import HEAD, StoredMails, envelope_of, read_stored

ID = "01890a5d-ac96-774b-bcce-b302099a8001"
OTHER = "01890a5d-ac96-774b-bcce-b302099a8002"


def block(*recipients: str, sender: str = "real@sender.example", mail_id: str = ID) -> bytes:
    """The counted block of `addRawHeaders`."""
    lines = [
        f"Return-Path: <{sender}>",
        f"X-smtp-relay-ID: {mail_id}",
        f"X-smtp-relay-FIELDS: {len(recipients) + 7}",
        *(f"X-smtp-relay-RCPT_TO: {each}" for each in recipients),
        f"X-smtp-relay-MAIL_FROM: {sender}",
        "X-smtp-relay-USER: ",
        "X-smtp-relay-CLIENT_HOSTNAME: [127.0.0.1]",
        "X-smtp-relay-HELO: here",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


MAIL = (
    b"From: Ada <ada@h.example>\r\nTo: bob@h.example\r\nCc: carol@h.example\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nhi\r\n"
)


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def mails_of(folder: Path) -> StoredMails:
    config = DeliveryConfig.model_validate(
        {"flows": {"in": {"outputs": [{"type": "file", "path": str(folder)}]}}}
    )
    return StoredMails.of(config, folder)


class TestWhoIsBelieved:
    def test_the_envelope_on_top_before_the_header(self, tmp_path: Path) -> None:
        path = put(tmp_path, "a.eml", block("hidden@bcc.example", "x@y.example") + MAIL)
        found = read_stored(path, trusted=True)
        assert (found.id, found.sender, found.recipients) == (
            ID,
            "real@sender.example",
            ("hidden@bcc.example", "x@y.example"),
        )
        assert found.subject == "Grüße"
        assert found.parts is not None
        assert found.parts.text == "hi\n"

    def test_the_header_without_the_envelope(self, tmp_path: Path) -> None:
        found = read_stored(put(tmp_path, "a.eml", MAIL), trusted=True)
        assert (found.id, found.sender) == ("", "ada@h.example")
        assert found.recipients == ("bob@h.example", "carol@h.example")

    def test_not_the_block_of_a_sender_where_the_output_writes_none(self, tmp_path: Path) -> None:
        path = put(tmp_path, "a.eml", block("x@y.example") + MAIL)
        found = read_stored(path, trusted=False)
        assert (found.id, found.sender) == ("", "ada@h.example")

    def test_not_a_block_further_down(self) -> None:
        assert envelope_of(b"Received: x\r\n" + block("x@y.example")) is None

    def test_only_the_counted_fields(self) -> None:
        forged = b"X-smtp-relay-RCPT_TO: forged@x.example\r\n"
        found = envelope_of(block("x@y.example") + forged)
        assert found is not None
        assert found.recipients == ("x@y.example",)

    @pytest.mark.parametrize(
        "data",
        [
            block("x@y.example")[:-2],
            block("x@y.example").replace(b"FIELDS: 8", b"FIELDS: 9") + MAIL,
            block("x@y.example").replace(b"FIELDS: 8", b"FIELDS: 3") + MAIL,
            block("x@y.example").replace(b"FIELDS: 8", b"FIELDS: 99999") + MAIL,
            block("x@y.example").replace(b"-USER", b"-HELO") + MAIL,
            block("x@y.example").replace(b"\r\n", b"\n") + MAIL,
            b"",
        ],
    )
    def test_not_a_block_that_is_not_whole(self, data: bytes) -> None:
        assert envelope_of(data) is None

    def test_a_folder_is_believed_if_all_its_outputs_write_the_envelope(self, tmp_path: Path) -> None:
        config = DeliveryConfig.model_validate(
            {"flows": {"in": {"outputs": [{"type": "file", "path": "a"}, {"type": "log"}]}}}
        )
        (folder,) = folders_of(config, tmp_path)
        assert folder.path == tmp_path / "a"
        assert not folder.trusted


class TestAnythingElse:
    def test_what_is_not_a_regular_file_is_named_and_never_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        secret = put(tmp_path.parent, f"{tmp_path.name}-secret", b"Subject: secret\r\n\r\n")
        (tmp_path / "link").symlink_to(secret)
        (tmp_path / "dangling").symlink_to("nowhere")
        (tmp_path / "away").symlink_to(tmp_path.parent, target_is_directory=True)
        mails = mails_of(tmp_path)
        found = {one.path.name: mails.read(one) for one in mails.newest()}
        assert found["fifo"].error == "not a regular file"
        assert {found[name].error for name in ("link", "dangling", "away")} == {"is a link"}
        assert not any(each.subject for each in found.values())

    @pytest.mark.parametrize(
        "data",
        [b"", b"\0" * 5_000, Random(5).randbytes(5_000), b"\x7fELF", b"no header", b"\r\n\r\nx", b"\n"],
        ids=("empty", "zeros", "random", "program", "one line", "no fields", "line feed"),
    )
    def test_a_binary_file_is_named(self, tmp_path: Path, data: bytes) -> None:
        found = read_stored(put(tmp_path, "a.bin", data), trusted=False)
        assert found.error == "is not a mail: it has no header"
        assert found.size == len(data)

    def test_a_file_that_may_not_be_read_is_named(self, tmp_path: Path) -> None:
        found = read_stored(tmp_path / ("x" * 300), trusted=False)
        assert found.error == "File name too long"
        assert read_stored(tmp_path / "none", trusted=False).error == "No such file or directory"

    def test_a_file_with_unix_line_ends_is_a_mail(self, tmp_path: Path) -> None:
        path = put(tmp_path, "a.eml", b"From: a@b.example\nSubject: by hand\n\nline\nline\n")
        found = read_stored(path, trusted=False)
        assert (found.subject, found.sender, found.error) == ("by hand", "a@b.example", "")
        assert found.parts is not None
        assert found.parts.text == "line\nline\n"

    def test_a_list_reads_the_start_of_a_huge_mail_only(self, tmp_path: Path) -> None:
        path = tmp_path / "huge.eml"
        with path.open("wb") as file:
            file.write(MAIL)
            file.truncate(50 << 20)
        tracemalloc.start()
        try:
            found = read_stored(path, trusted=False)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found.subject == "Grüße"
        assert found.size == 50 << 20
        assert peak < 8 * HEAD

    @given(
        st.binary(max_size=300),
        st.sampled_from([b"", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"]),
    )
    def test_no_file_makes_it_raise(self, data: bytes, start: bytes) -> None:
        import tempfile

        with tempfile.NamedTemporaryFile() as file:
            file.write(start + data)
            file.flush()
            read_stored(Path(file.name), trusted=True).summary()

    def test_deep_nesting_and_a_huge_header_are_listed(self, tmp_path: Path) -> None:
        nested = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (at, at) for at in range(5_000)
        )
        huge = b"Subject: " + b"x" * 300_000 + b"\r\nTo: " + b"a@b.example, " * 30_000 + b"\r\n\r\n"
        assert read_stored(put(tmp_path, "n", nested), trusted=False).error == ""
        assert read_stored(put(tmp_path, "h", huge), trusted=False).error == ""


class TestNames:
    def test_latest_is_the_newest_file(self, tmp_path: Path) -> None:
        for at, name in enumerate(("b.eml", "c.eml", "a.eml")):
            os.utime(put(tmp_path, name, MAIL), (at, at))
        (found,) = mails_of(tmp_path).named("latest")
        assert found.path.name == "a.eml"

    def test_an_id_or_its_start_is_found_in_the_file_names(self, tmp_path: Path) -> None:
        put(tmp_path, f"x_{ID}.eml", MAIL)
        put(tmp_path, f"y/{OTHER}.eml", MAIL)
        mails = mails_of(tmp_path)
        assert [each.id for each in mails.named(ID)] == [ID]
        assert [each.id for each in mails.named(OTHER.upper())] == [OTHER]
        with pytest.raises(ConfigError, match="start of 2 ids"):
            mails.named("01890a5d")
        assert mails.named("ffff") == []

    def test_an_id_is_found_in_the_envelope_on_top(self, tmp_path: Path) -> None:
        put(tmp_path, "one.eml", block("x@y.example") + MAIL)
        put(tmp_path, "two.eml", block("x@y.example", mail_id=OTHER) + MAIL)
        mails = mails_of(tmp_path)
        mails.folders[0].trusted = True
        assert [each.path.name for each in mails.named(OTHER)] == ["two.eml"]

    def test_a_path_is_that_file(self, tmp_path: Path) -> None:
        path = put(tmp_path, "a.eml", MAIL)
        assert [each.path for each in mails_of(tmp_path).named(str(path))] == [path]
        assert mails_of(tmp_path).named(str(tmp_path / "none.eml")) == []

    def test_temporaries_are_not_mails(self, tmp_path: Path) -> None:
        put(tmp_path, f".{ID}.0123456789abcdef.tmp", MAIL)
        assert mails_of(tmp_path).newest() == []

    def test_a_configuration_without_a_file_output_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no file output"):
            StoredMails.of(DeliveryConfig.model_validate({"flows": {"in": {"outputs": []}}}), tmp_path)
