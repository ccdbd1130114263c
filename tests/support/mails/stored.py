"""What is to be found in a stored mail: our fields on top, the mail below them octet for octet."""

from __future__ import annotations

import re
from typing import Final

_OURS: Final = re.compile(
    rb"x-smtp-relay: [0-9][^\r\n]*\r\n"
    rb"Received: from [^\r\n]+(?:\r\n[ \t][^\r\n]+)*\r\n"
)

_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")  # RFC 5322 sections 2.2 and 4.5


def strip_added_fields(stored: bytes) -> bytes:
    """What stands below `x-smtp-relay` and `Received`. Raises AssertionError when the stored mail
    does not begin with exactly these two fields, in this order."""
    match = _OURS.match(stored)
    assert match is not None, f"our fields are not on top: {stored[:400]!r}"
    return stored[match.end() :]


def below(mail: bytes) -> bytes:
    """What must stand below our fields for a mail as received: the mail, after an empty line where
    its first line is no header field; a mailbox file's line is made one."""
    if re.match(rb">?From (?!\s*:)", mail):
        return b"X-Mailbox-Line: " + mail
    headed = _FIELD.match(mail) is not None or mail.startswith(b"\r\n")
    return mail if headed else b"\r\n" + mail


def mended(octets: bytes) -> bytes:
    """The content of DATA (its final CRLF.CRLF left out but for the first CRLF) as a mail, by the
    letter of RFC 5321 section 4.5.2 and of `bareNewline: "normalize"`; an octet at a time, slow
    and plain, to hold the real reader against."""
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
