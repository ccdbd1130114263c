"""The author domains of a mail: those of its From field (RFC 9989 section 5.3.1).

Read leniently on purpose. What a mail client might show as the author must be found here, or DMARC
could be walked around with a From field that we cannot parse and people can.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from listener.mailauth.dkim.fields import MAX_FIELDS, HeaderBlock
from listener.mailauth.dns.domains import normal_octets

MAX_DOMAINS: Final = 8
"""Author domains checked (RFC 9989 section 11.5 wants a bound)."""

MAX_LENGTH: Final = 16_384
"""Octets of all From fields that are read; more is no list of authors."""

_BACKSLASH, _QUOTE, _OPEN, _CLOSE, _LESS, _GREATER = b'\\"()<>'
_SEPARATORS: Final = b",;:"
_ENDS_HOST: Final = re.compile(rb"[\s,;:]")
_USUAL: Final = re.compile(  # one display name, quoted or not, and one address: most mails
    rb"""(?:[ \t]*"[^"\\<>@]*"[ \t]*|[^"(),:;<>@\\]*)<[^"(),:;<>@\\\s]+@([0-9A-Za-z.-]+)>[ \t]*"""
)


@dataclass(frozen=True, slots=True)
class Authors:
    """`domains` in order, each once; `fields` counts From fields. `complete` is false when there was
    more than is looked at."""

    domains: tuple[str, ...]
    fields: int
    complete: bool


def authors(block: HeaderBlock) -> Authors:
    """All author domains of a mail."""
    fields = block.named(b"from")
    found: dict[str, None] = {}
    left = MAX_LENGTH
    complete = len(block.fields) < MAX_FIELDS
    for field in fields:
        value = field.value.replace(b"\r\n", b"")
        if len(value) > left:
            complete = False
            value = value[:left]
        left -= len(value)
        for host in _hosts(value):
            domain = normal_octets(host)
            if domain is None or domain in found:
                continue
            if len(found) == MAX_DOMAINS:
                return Authors(tuple(found), len(fields), complete=False)
            found[domain] = None
    return Authors(tuple(found), len(fields), complete)


def _hosts(value: bytes) -> Iterator[bytes]:
    """What follows the @ of each address (RFC 5322 section 3.4, with its obsolete forms)."""
    usual = _USUAL.fullmatch(value)
    if usual is not None:
        yield usual[1]
        return
    mailboxes, balanced = _mailboxes(value)
    if not balanced:
        # A quote or comment that never ends hides the rest from us, not from every mail client.
        mailboxes += _mailboxes(value.translate(None, b'"()'))[0]
    for plain, angles in mailboxes:
        for text in angles or [plain]:
            for host in text.split(b"@")[1:]:
                yield _ENDS_HOST.split(host.lstrip(), maxsplit=1)[0]


def _mailboxes(value: bytes) -> tuple[list[tuple[bytes, list[bytes]]], bool]:
    """Split at the commas, semicolons and group colons outside of quotes, comments and brackets.

    Of each part: its text without comments and quoted strings, and what stood in angle brackets.
    The flag tells whether quotes and comments ended.
    """
    found: list[tuple[bytes, list[bytes]]] = []
    plain = bytearray()
    angle: bytearray | None = None
    angles: list[bytes] = []
    depth = 0
    quoted = escaped = False
    for octet in value:
        if escaped:
            escaped = False
        elif octet == _BACKSLASH and (quoted or depth):
            escaped = True
        elif quoted:
            quoted = octet != _QUOTE
        elif octet == _OPEN:
            depth += 1
        elif depth:
            depth -= octet == _CLOSE
        elif octet == _QUOTE:
            quoted = True
        elif octet == _LESS:
            if angle is not None:
                angles.append(bytes(angle))
            angle = bytearray()
        elif octet == _GREATER and angle is not None:
            angles.append(bytes(angle))
            angle = None
        elif angle is not None:
            angle.append(octet)
        elif octet in _SEPARATORS:
            found.append((bytes(plain), angles))
            plain, angles = bytearray(), []
        else:
            plain.append(octet)
    if angle is not None:  # never closed
        angles.append(bytes(angle))
    found.append((bytes(plain), angles))
    return found, not (quoted or depth)
