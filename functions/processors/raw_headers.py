"""The envelope as header fields on top of a stored mail (`addRawHeaders`).

A cloud's object begins with the five fields of `raw_fields`. A file begins with `counted_block`: the
only fields that a reader may believe, because the mail below may hold any field.
"""

from __future__ import annotations

import re
from typing import Final

from functions.message.headers import CRLF, INVISIBLE, separator
from functions.message.mail import MAX_HEAD, Mail
from functions.message.text import printable

_PREFIX: Final = "X-smtp-relay-"

# Readers of mails differ about what ends a line, and about the blanks around a name.
_LINE_END: Final = rb"(?>\r\n?|\n)"
_NAMES: Final = rb"Return-Path|X-smtp-relay-(?:ID|FIELDS|RCPT_TO|MAIL_FROM|USER|CLIENT_HOSTNAME|HELO)"
_FIELD: Final = rb"((?:(?=[^ \t!-~])%b*+)?(?:%b)(?:%b|%b[ \t])*+:)" % (
    INVISIBLE, _NAMES, INVISIBLE, _LINE_END,
)  # fmt: skip
_FIRST: Final = re.compile(_FIELD, re.IGNORECASE)
_OTHER: Final = re.compile(rb"[\r\n]" + _FIELD, re.IGNORECASE)
_FIELD_END: Final = re.compile(_LINE_END + rb"(?![ \t])")


def raw_fields(mail: Mail, flow: str) -> bytes:
    """One `X-smtp-relay-RCPT_TO` for each of this flow's recipients, then the reverse-path, the user,
    the client's name and its HELO, each CRLF-ended; values cannot end a field."""
    return _lines(_envelope_fields(mail, flow))


def counted_block(mail: Mail, flow: str) -> bytes:
    """`Return-Path` (RFC 5321 section 4.4), the mail's id, `X-smtp-relay-FIELDS` with the number of
    fields in the whole block, and the fields of `raw_fields`; each is one line, in this order."""
    envelope = mail.envelope
    fields = _envelope_fields(mail, flow)
    top = [
        ("Return-Path", f"<{envelope.reverse_path}>"),
        (f"{_PREFIX}ID", envelope.id),
        (f"{_PREFIX}FIELDS", str(len(fields) + 3)),
    ]
    return _lines(top + fields)


def on_top(mail: Mail, flow: str, block: bytes) -> bytes:
    """The bytes above the stored mail: `block`, then the fields of this flow's filters. An empty line
    ends them where the stored mail has no header."""
    fields = mail.flow_fields(flow)
    if fields or not block or mail.head:
        return block + fields
    with mail.content.open() as stream:
        return block + separator(b"", stream.read(2))


def without_ours(head: bytes) -> bytes:
    """A header block without the fields of `counted_block`, in any case, folded or not. It also removes
    what only a lenient reader takes for such a field: after a bare LF or CR, or with blanks or control
    characters around its name. `head` itself if there is none."""
    lowered = head.lower()
    if b"x-smtp-relay-" not in lowered and b"return-path" not in lowered:
        return head
    kept: list[bytes] = []
    copied = 0
    found = _FIRST.match(head) or _OTHER.search(head)
    while found is not None:
        last = _FIELD_END.search(head, found.end())
        if last is None and len(head) >= MAX_HEAD:
            break  # the field goes on below what is read here
        if copied < found.start(1):
            kept.append(head[copied : found.start(1)])
        copied = len(head) if last is None else last.end()
        if last is not None and last[0] == CRLF and kept and not kept[-1].endswith(CRLF):
            # The fields above and below stay apart for every reader.
            kept[-1] = kept[-1][:-1] + CRLF
        found = _OTHER.search(head, copied - 1)
    return b"".join([*kept, head[copied:]]) if copied else head


def _envelope_fields(mail: Mail, flow: str) -> list[tuple[str, str]]:
    envelope = mail.envelope
    return [
        *((f"{_PREFIX}RCPT_TO", recipient) for recipient in envelope.recipients_of(flow)),
        (f"{_PREFIX}MAIL_FROM", envelope.reverse_path),
        (f"{_PREFIX}USER", envelope.user or ""),
        (f"{_PREFIX}CLIENT_HOSTNAME", envelope.client.name),
        (f"{_PREFIX}HELO", envelope.helo),
    ]


def _lines(fields: list[tuple[str, str]]) -> bytes:
    return "".join([f"{name}: {printable(value)}\r\n" for name, value in fields]).encode()
