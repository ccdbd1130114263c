"""The content of a stored mail: the relay's fields on top, the mail below them byte for byte."""

from __future__ import annotations

import re
from typing import Final

_OURS: Final = re.compile(
    rb"x-smtp-relay: [0-9][^\r\n]*\r\n"
    rb"Received: from [^\r\n]+(?:\r\n[ \t][^\r\n]+)*\r\n"
)

_FIELD: Final = re.compile(rb"(?:\xef\xbb\xbf)?[!-9;-~]+[ \t]*:")  # RFC 5322 sections 2.2 and 4.5


def strip_added_fields(stored: bytes) -> bytes:
    """The part below `x-smtp-relay` and `Received`. Raises AssertionError if the stored mail does not
    begin with exactly these two fields, in this order."""
    match = _OURS.match(stored)
    assert match is not None, f"our fields are not on top: {stored[:400]!r}"
    return stored[match.end() :]


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
