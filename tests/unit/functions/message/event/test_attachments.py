"""The descriptions of attachments: their words, their digests, and how often they are decoded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Final

import pytest

from functions.message.event.attachments import described
from functions.message.event.objects import Digest, StoredMail, StoredObject
from functions.message.mail import BytesContent, Mail
from functions.message.mime import Parts, read_parts
from functions.message.reading import transfer
from tests.support.mails.spooled import envelope_of

PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
MAIL: Final = (
    b"Content-Id: <of-the-mail@x>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: multipart/related; boundary=c\r\nContent-ID: <of-the-group@x>\r\n\r\n"
    b"--c\r\nContent-Type: text/html\r\n\r\n<img src=cid:i@x>\r\n"
    b"--c\r\nContent-Type: Image/PNG; name=i.png\r\nContent-Disposition: inline\r\n"
    b"CONTENT-ID:\r\n <i@x>\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--c--\r\n"
    b"--b\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nplain\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nContent-ID: <inside@x>\r\nSubject: y\r\n\r\nz\r\n"
    b"--b--\r\n"
) % base64.encodebytes(PNG).replace(b"\n", b"\r\n").strip()


def parts_of(content: bytes) -> Parts:
    envelope = envelope_of(content)
    return read_parts(Mail(envelope, BytesContent(content)), "in")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_attachments_tell_their_words_and_the_digest_of_the_decoded_content() -> None:
    assert described(parts_of(MAIL)) == [
        {
            "filename": "i.png",
            "size": len(PNG),
            "contentType": "image/png",
            "contentId": "<i@x>",
            "disposition": "inline",
            "sha256": digest(PNG),
        },
        {
            "filename": "a.txt",
            "size": 5,
            "contentType": "text/plain",
            "disposition": "attachment",
            "sha256": digest(b"plain"),
        },
        {
            "filename": "attachment-3.eml",
            "size": len(b"Content-ID: <inside@x>\r\nSubject: y\r\n\r\nz"),
            "contentType": "message/rfc822",
            "sha256": digest(b"Content-ID: <inside@x>\r\nSubject: y\r\n\r\nz"),
        },
    ]


def test_a_mail_that_is_an_attachment_as_a_whole_has_the_id_of_its_header() -> None:
    content = b"Subject: x\r\nContent-ID: <a@x>\r\nContent-Type: application/pdf\r\n\r\nPDF"
    (about,) = described(parts_of(content))
    assert (about["contentId"], about["size"]) == ("<a@x>", 3)


def test_long_words_of_strangers_are_cut() -> None:
    content = b"Content-ID: <%s>\r\nContent-Type: a/%s\r\n\r\n" % (b"i" * 5_000, b"b" * 5_000)
    (about,) = described(parts_of(content))
    assert {len(about["contentId"]), len(about["contentType"])} == {1_000}


@pytest.mark.parametrize("stored", [False, True])
def test_each_attachment_is_decoded_once_and_not_again_after_it_was_stored(
    monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    decoded: list[str] = []
    pieces = transfer.pieces

    def counted(data: bytes, start: int, end: int, encoding: str) -> Iterator[bytes]:
        decoded.append(encoding)
        return pieces(data, start, end, encoding)

    monkeypatch.setattr(transfer, "pieces", counted)
    there = {n: StoredObject(f"s3://b/{n}", "b", str(n), Digest(n, f"{n}")) for n in range(3)}
    found = described(parts_of(MAIL), StoredMail(attachments=there if stored else {}))
    assert len(decoded) == (0 if stored else 3)
    if stored:
        assert [(each["url"], each["size"], each["sha256"]) for each in found] == [
            ("s3://b/0", 0, "0"),
            ("s3://b/1", 1, "1"),
            ("s3://b/2", 2, "2"),
        ]
