"""Reading a mail's content for outputs that show it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.message.addresses import Address
from functions.message.envelope import Client, Envelope, Recipient
from functions.message.mail import BytesContent, Mail
from functions.message.mime import Limits, Parts, read_parts


def read(content: bytes, limits: Limits | None = None, reverse_path: str = "a@b.example") -> Parts:
    envelope = Envelope(
        id="019b7d2a-0000-7000-8000-000000000000",
        session="s",
        received=0,
        reverse_path=reverse_path,
        recipients=(
            Recipient(address="c@d.example", flows=("f",)),
            Recipient(address="x@d.example", flows=("g",)),
        ),
        client=Client(ip="192.0.2.1"),
        size=len(content),
        sha256="",
    )
    return read_parts(Mail(envelope, BytesContent(content)), "f", limits)


def everything(parts: Parts) -> list[object]:
    """Read all properties, as an output may."""
    return [
        parts.subject,
        parts.message_id,
        parts.from_,
        parts.to,
        parts.cc,
        parts.bcc,
        parts.reply_to,
        parts.date,
        parts.priority,
        parts.fields,
        parts.text,
        parts.html,
        [(a.filename, a.size, a.content_type, len(a.payload())) for a in parts.attachments],
    ]


def test_a_mail_as_a_client_library_writes_it() -> None:
    message = EmailMessage(policy=SMTP)
    message["From"] = "Jörg Example <joerg@example.org>"
    message["To"] = "Bob <bob@example.net>, carol@example.net"
    message["Cc"] = "dave@example.net"
    message["Reply-To"] = "list@example.org"
    message["Subject"] = "Grüße aus Köln — a subject that is long enough to be folded over lines"
    message["Date"] = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    message["Message-ID"] = "<1@example.org>"
    message["X-Priority"] = "1 (Highest)"
    message.set_content("Hällo\nworld\n")
    message.add_alternative("<p>Hällo</p>\n", subtype="html")
    message.add_attachment(b"\x89PNG" * 1000, maintype="image", subtype="png", filename="bild ä.png")
    message.add_attachment("notes\n", filename="notes.txt")
    parts = read(message.as_bytes())
    assert parts.from_ == [Address("Jörg Example", "joerg@example.org")]
    assert parts.to == [Address("Bob", "bob@example.net"), Address("", "carol@example.net")]
    assert parts.cc == [Address("", "dave@example.net")]
    assert parts.bcc == []
    assert parts.reply_to == [Address("", "list@example.org")]
    assert parts.subject == str(message["Subject"])
    assert parts.date == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert parts.message_id == "<1@example.org>"
    assert parts.priority == "high"
    assert parts.text == "Hällo\nworld\n"
    assert parts.html == "<p>Hällo</p>\n"
    assert [(a.filename, a.size, a.content_type) for a in parts.attachments] == [
        ("bild ä.png", 4000, "image/png"),
        ("notes.txt", 7, "text/plain"),
    ]
    assert parts.attachments[0].payload() == b"\x89PNG" * 1000
    assert ("Subject", str(message["Subject"])) in parts.fields


def test_the_envelope_stands_in_for_missing_headers() -> None:
    parts = read(b"Subject: x\r\n\r\nbody\r\n")
    assert parts.from_ == [Address("", "a@b.example")]
    assert parts.to == [Address("", "c@d.example")]
    assert read(b"", reverse_path="").from_ == []


def test_text_is_derived_from_html() -> None:
    parts = read(b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>caf\xe9</p>\r\n")
    assert (parts.text, parts.html) == ("café", "<p>café</p>\n")


def test_forwarded_mails_and_inline_images_are_attachments() -> None:
    parts = read(
        b'Content-Type: multipart/mixed; boundary="m"\r\n\r\npreamble\r\n--m\r\n\r\nhi\r\n--m\r\n'
        b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner body\r\n--m\r\n"
        b"Content-Type: image/gif\r\nContent-Disposition: inline\r\nContent-ID: <1@x>\r\n\r\n"
        b"GIF\r\n--m--\r\nepilogue"
    )
    assert parts.text == "hi"
    assert [(a.filename, a.payload()) for a in parts.attachments] == [
        ("attachment-1.eml", b"Subject: inner\r\n\r\ninner body"),
        ("attachment-2.gif", b"GIF"),
    ]


def test_a_digest_defaults_to_mails() -> None:
    parts = read(
        b"Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: a\r\n\r\nx\r\n--d--\r\n"
    )
    assert [a.content_type for a in parts.attachments] == ["message/rfc822"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        (b"\r\n", ""),
        (b"no header\r\n", "no header\n"),
        (b"Subject: x\r\n", ""),
        (b"Subject: \xff\r\n\r\n\xff\r\n", "ÿ\n"),
        (b"Content-Type: text/plain; charset=nonsense\r\n\r\n\xe9", "é"),
        (b"Content-Type: nonsense\r\n\r\nx", "x"),
        (b"Content-Type: multipart/mixed\r\n\r\nno boundary", "no boundary"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\nno delimiter", "no delimiter"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nunterminated", "unterminated"),
        (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--b\r\n\r\nx\r\n--bb\r\n--b--",
            "\nx\r\n--bb",
        ),
        (b"Content-Transfer-Encoding: base64\r\n\r\naGk", "hi"),
        (b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4=\r\n=\r\nx=ZZ", "äx=ZZ"),
        (b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin", "begin"),
    ],
)
def test_broken_mails_are_read_as_far_as_they_go(content: bytes, text: str) -> None:
    parts = read(content)
    everything(parts)
    assert (parts.text or "") == text.replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        (b"1", "high"),
        (b"3", "normal"),
        (b"5 (Lowest)", "low"),
        (b"urgent", "high"),
        (b"?", "normal"),
        (b"9" * 90, "low"),
    ],
)
def test_priority(value: bytes, priority: str) -> None:
    assert read(b"X-Priority: " + value + b"\r\n\r\n").priority == priority
    assert read(b"\r\n").priority is None


@pytest.mark.parametrize(
    "date", [b"", b"x", b"Fri, 99 Foo 9999999999 99:99 +9999999", b"1 Jan 99999 0:0:0 +0000", b"\xff" * 5000]
)
def test_an_unreadable_date_is_none(date: bytes) -> None:
    assert read(b"Date: " + date + b"\r\n\r\n").date is None


def multipart(boundary: str, *parts: bytes) -> bytes:
    line = b"--" + boundary.encode()
    body = b"".join(line + b"\r\n" + part + b"\r\n" for part in parts)
    return f"Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n".encode() + body + line + b"--\r\n"


def test_a_hundred_thousand_parts_are_capped() -> None:
    parts = read(multipart("b", *[b"\r\nx"] * 100_000))
    assert 0 < len(parts.leaves) < 1_000
    everything(parts)


def test_thousands_of_levels_neither_recurse_nor_hide_the_first_text() -> None:
    content = b"\r\nbottom"
    for level in range(3_000):
        content = multipart(
            f"b{level}", b"\r\ntop" if level > 2_990 else b"Content-Type: x/y\r\n\r\n", content
        )
    parts = read(content, Limits(depth=50))
    everything(parts)
    assert parts.text is not None
    assert parts.text.startswith("top")


def test_what_is_too_deep_stays_an_attachment() -> None:
    parts = read(multipart("a", multipart("b", multipart("c", b"\r\nx"))), Limits(depth=2))
    assert [a.content_type for a in parts.attachments] == ["multipart/mixed"]


def test_twenty_megabytes_of_base64() -> None:
    body = base64.encodebytes(bytes(15_000_000)).replace(b"\n", b"\r\n")
    head = b"Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    (attachment,) = read(head + body).attachments
    assert (attachment.filename, attachment.size) == ("a.zip", 15_000_000)


def test_only_the_first_bytes_are_read_if_that_is_enough() -> None:
    parts = read(b"Subject: x\r\n\r\n" + b"y" * 5_000, Limits(content=1_000))
    assert parts.text == "y" * (1_000 - 14)
    assert read(b"\r\n" + b"y" * 5_000, Limits(text=10)).text == "y" * 10


def test_control_characters_never_reach_a_file_name() -> None:
    parts = read(b'Content-Type: image/png; name="a\x00b\x1b\x7f.png"\r\n\r\n')
    assert parts.attachments[0].filename == "ab.png"


pieces = st.sampled_from(
    [
        *(b"\r\n", b"\r\n\r\n", b"--b", b"--b--", b"--c", b"\xff", b"x", b":", b" ", b"Subject: y"),
        b"Content-Type: multipart/mixed; boundary=b",
        b"Content-Type: multipart/alternative; boundary=c",
        b"Content-Transfer-Encoding: base64",
        b"Content-Type: text/html",
        b"Content-Disposition: attachment; filename=z",
    ]
)


@settings(max_examples=300)
@given(st.lists(pieces, max_size=25).map(b"".join))
def test_any_mail_is_read(content: bytes) -> None:
    everything(read(content))
    everything(read(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + content))


class TestPlaces:
    """Each part tells where it stands, and the name that others refer to it by."""

    def test_parts_of_parts_have_the_numbers_of_both(self) -> None:
        mail = (
            b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"
            b"--a\r\nContent-Type: multipart/related; boundary=b\r\n\r\n"
            b"--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n"
            b"--b\r\nContent-Type: image/png\r\nContent-ID: <one@h.example>\r\n\r\nx\r\n--b--\r\n"
            b"--a\r\nContent-Type: application/pdf\r\n\r\ny\r\n--a--\r\n"
        )
        found = [(leaf.place, leaf.content_id) for leaf in read(mail).leaves]
        assert found == [((1, 1), ""), ((1, 2), "one@h.example"), ((2,), "")]

    def test_a_mail_of_one_part_has_no_numbers(self) -> None:
        assert [leaf.place for leaf in read(b"Subject: x\r\n\r\nx\r\n").leaves] == [()]


def test_uuencoded_data_names_itself() -> None:
    parts = read(
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n"
        b"begin 644 my file.txt\r\n#86)C\r\n`\r\nend\r\n"
    )
    assert [(one.filename, one.payload()) for one in parts.attachments] == [("my file.txt", b"abc")]
