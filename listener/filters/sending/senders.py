"""The senders that a mail's header names: From, Sender, Resent-From, Resent-Sender (RFC 5322 section 3.6).

The fields are read by `functions.message.addresses`, as all code of the relay reads authors.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

from functions.message.addresses import Address, authors_of, parse_addresses
from functions.message.fields import all_values
from functions.message.headers import BOM, CRLF, field_end, field_patterns
from functions.message.text import one_line

FIELDS: Final = ("from", "sender", "resent-from", "resent-sender")

_FIRST, _OTHER = field_patterns((), FIELDS)
_LONGEST: Final = 500
"""Bytes of a From field whose reading is remembered."""

_CR, _LF = b"\r\n"
_FOLDED: Final = (b" ", b"\t")

# RFC 5321 section 4.1.2: a local part is a word without blanks, or quoted; a domain or a literal follows.
_ADDRESS: Final = re.compile(
    r'(?:"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*+"|[^\s\x00-\x1f\x7f"(),:;<>@\[\]\\]++)'
    r"@(?:[^\s\x00-\x1f\x7f\"(),:;<>@\[\]\\]++|\[[^\s\x00-\x1f\x7f\[\]\\@]*+\])"
)
_IN_NAME: Final = re.compile(
    r"[^\s\x00-\x1f\"'(),:;<>@\[\]\\]++@[^\s\x00-\x1f\"'(),:;<>@\[\]\\]++(?:@[^\s\x00-\x1f\"'(),:;<>@\[\]\\]++)*+"
)
_SPACED_AT: Final = re.compile(r"\s@|@\s")
_BRACKETS: Final = re.compile(rb"<[^<>]*+>")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class HeaderSenders(NamedTuple):
    """The addresses that readers take for senders, each once, with the field that names it; `fault` is the
    reason why the header names none for sure, "" if it does."""

    addresses: tuple[tuple[str, str], ...] = ()
    fault: str = ""


def senders_of(head: bytes) -> HeaderSenders:
    """The senders of a mail with this header block. Never raises; the time is linear in its size."""
    lines = head.count(b"\r\n")
    if head.count(b"\r") != lines or head.count(b"\n") != lines:
        return HeaderSenders(fault="The header has a bare CR or LF, which some readers take for a line's end")
    if _FIRST.match(head) is None and _OTHER.search(head) is None:
        return HeaderSenders(fault="The mail has no From header")
    field = author_field(head)
    return _read(head) if field is None else _remembered(field)


def author_field(head: bytes, *, crlf: bool = False) -> bytes | None:
    """The From field of a header block, if it is plain and short, and no reader finds another one of
    `FIELDS` or a bare CR or LF: `senders_of` then says the same of it as of the whole block. Most mails have
    one, from a client that writes the same one again and again. `crlf` says that no CR or LF is bare."""
    text = head.upper()
    # The patterns cost more than a look for the words that all of them need.
    plain = text.count(b"FROM") == 1 and text.find(b"SENDER") < 0
    if plain:
        start = text.find(b"FROM:")
    else:
        found = _FIRST.match(head) or _OTHER.search(head)
        if found is None or not text.startswith(b"FROM:", start := found.start(found.lastindex or 0)):
            return None
    if start and (start < 0 or text[start - 2 : start] != b"\r\n"):
        return None
    end = head.find(b"\r\n", start) + 2
    if head.startswith(_FOLDED, end):
        end = field_end(head, start)
    if end - start > _LONGEST or not (plain or _OTHER.search(head, end - 2) is None):
        return None
    if not crlf:
        bare = head.replace(b"\r\n", b"")
        if _LF in bare or _CR in bare:
            return None
    if not head.isascii() and BOM in head:
        return None
    return head[start:end]


def in_context(head: bytes, field: bytes) -> bytes:
    """A field of a header block that `author_field` gave, with the line end before it and the first byte of
    the field after it, for `names_again`; b"" if none comes after it."""
    end = head.find(field) + len(field)
    return CRLF + field + head[end : end + 1] if end < len(head) else b""


def names_again(head: bytes, line: bytes) -> bool:
    """True only if `author_field` gives, with `crlf`, the field that `in_context` made this line of. It
    takes fewer looks, because most clients write the same field again and again."""
    lines = CRLF + head
    text = lines.upper()
    # `find` takes half the time of `in`, and `isascii` a quarter of a look for the mark.
    plain = lines.find(line) >= 0 and text.count(b"FROM") == 1 and text.find(b"SENDER") < 0
    return plain and (head.isascii() or BOM not in head)


@lru_cache(maxsize=1_024)
def _remembered(head: bytes) -> HeaderSenders:
    return _read(head)


def _read(head: bytes) -> HeaderSenders:
    addresses: dict[tuple[str, str], None] = {}
    for field in FIELDS:
        shown = field.title()
        authors = authors_of(head, field.encode())
        if field == "from" and authors.fields != 1:
            many = "several From headers" if authors.fields else "no From header"
            return HeaderSenders(fault=f"The mail has {many}")
        if not authors.complete:
            return HeaderSenders(fault=f"The {shown} header is too long")
        if authors.fields and not authors.addresses:
            return HeaderSenders(fault=f"The {shown} header names no address")
        for box in authors.addresses:
            if not _ADDRESS.fullmatch(box.address) or _CONTROL.search(box.name):
                return HeaderSenders(fault=f"The {shown} header cannot be read as addresses")
        for box in (*authors.addresses, *authors.unsure):
            addresses.update({(shown, one): None for one in _possible(box)})
        if any(_SPACED_AT.search(box.name) for box in authors.addresses):
            addresses.update({(shown, one): None for one in _before_brackets(head, field)})
    return HeaderSenders(tuple(addresses))


def _possible(box: Address) -> list[str]:
    """The addresses that a reader may take for a sender's: the address, and those in the displayed name."""
    found = [box.address] if "@" in box.address else []
    name = box.name if box.name.isascii() else unicodedata.normalize("NFKC", box.name)
    if "@" in name:
        found += (one.strip(".") for one in _IN_NAME.findall(name))
    return found


def _before_brackets(head: bytes, field: str) -> list[str]:
    """The addresses in front of angle brackets, written with blanks or comments around the @ (RFC 5322
    section 4.4): of `bob @ example.com <ann@example.net>` Python's email package reads bob@example.com. A
    domain without a dot is none, because a name such as `Help @ Shop` is usual."""
    values = (value for value, _ in all_values(head, field.encode()))
    found = [box.address for value in values for box in parse_addresses(_BRACKETS.sub(b" ", value))]
    return [one for one in found if "." in one.rpartition("@")[2] and "@" in one]


def shown(address: str) -> str:
    """An address, short enough for a reply."""
    return one_line(address[:100])
