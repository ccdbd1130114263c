"""The content of a stored mail: the relay's fields on top, the mail below them byte for byte."""

from __future__ import annotations

import re
from email.message import EmailMessage
from typing import Final

CANARY: Final = "canary@hidden.example"
"""A recipient that only one of two flows may name."""

_OURS: Final = re.compile(
    rb"x-smtp-relay: [0-9][^\r\n]*\r\n"
    rb"Received: from [^\r\n]+(?:\r\n[ \t][^\r\n]+)*\r\n"
)

_FIELD: Final = re.compile(rb"(?:\xef\xbb\xbf)?[!-9;-~]+[ \t]*:")  # RFC 5322 sections 2.2 and 4.5


def with_everything() -> bytes:
    """A mail with text, HTML and an attachment."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Ada <ada@example.com>", "bob@example.com", "Grüße"
    mail.set_content("plain text\n")
    mail.add_alternative("<p>html</p>\n", subtype="html")
    mail.add_attachment(b"PDF", maintype="application", subtype="pdf", filename="a.pdf")
    return mail.as_bytes().replace(b"\n", b"\r\n")


def strip_added_fields(stored: bytes) -> bytes:
    """The part below `x-smtp-relay` and `Received`. Raises AssertionError if the stored mail does not
    begin with exactly these two fields, in this order."""
    match = _OURS.match(stored)
    assert match is not None, f"our fields are not on top: {stored[:400]!r}"
    return stored[match.end() :]


def split_block(stored: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """The fields of the counted block on top of a file (`addRawHeaders`), and the part below it. Raises
    AssertionError if the file does not begin with exactly such a block."""
    lines = stored.split(b"\r\n")
    named = [tuple(line.decode().split(": ", 1)) for line in lines[:3]]
    assert [name for name, *_ in named] == ["Return-Path", "X-smtp-relay-ID", "X-smtp-relay-FIELDS"], lines[
        :3
    ]
    count = int(named[2][1])
    fields = [(name, value) for name, value in (line.decode().split(": ", 1) for line in lines[:count])]
    last = ["RCPT_TO"] * (count - 7) + ["MAIL_FROM", "USER", "CLIENT_HOSTNAME", "HELO"]
    assert [name for name, _ in fields[3:]] == [f"X-smtp-relay-{each}" for each in last], fields
    return fields, b"\r\n".join(lines[count:])


def below(mail: bytes) -> bytes:
    """The expected part below the relay's fields for a mail as received: the mail, after an empty line
    if its first line is not a header field; a mailbox file's line is made one."""
    if re.match(rb">?From (?!\s*:)", mail):
        return b"X-Mailbox-Line: " + mail
    headed = _FIELD.match(mail) is not None or mail.startswith(b"\r\n")
    return mail if headed else b"\r\n" + mail


def mended(octets: bytes) -> bytes:
    """The content of DATA (its final CRLF.CRLF left out except for the first CRLF) as a mail, by the
    letter of RFC 5321 section 4.5.2 and of `bareNewline: "normalize"`; a byte at a time, slow and
    plain, to compare the real reader with."""
    out = bytearray()
    position, start_of_line = 0, True
    while position < len(octets):
        octet = octets[position : position + 1]
        if start_of_line and octet == b".":
            position, start_of_line = position + 1, False
            continue
        start_of_line = False
        if octets.startswith(b"\r\n", position):
            out += b"\r\n"
            position, start_of_line = position + 2, True
            continue
        out += {b"\r": b" ", b"\n": b"\r\n"}.get(octet, octet)
        position += 1
    return bytes(out)


def crlf_ended(sample: bytes) -> bytes:
    """A sample as a mail on the wire: CRLF line ends, the last line ended."""
    mail = sample.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return mail if mail.endswith(b"\r\n") else mail + b"\r\n"
