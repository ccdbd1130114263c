"""Addresses: how they are compared, and the authors of a mail by its From fields.

`reading.lists` reads lists of them. The From fields are read in one place, `authors_of`, because the code
that signs a mail, checks it or shows it has to mean the same author.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from functions.message.charset import decode
from functions.message.domains import ascii_form, domain_key, fold_ascii
from functions.message.fields import all_values
from functions.message.headers import BOM
from functions.message.reading.lists import Address, parse_list

__all__ = [
    "MAX_ADDRESSES",
    "MAX_AUTHORS",
    "MAX_FROM",
    "Address",
    "Authors",
    "address_key",
    "authors_of",
    "in_ascii",
    "parse_addresses",
    "with_a_labels",
]

MAX_ADDRESSES: Final = 2_000
"""Most mailboxes of a list that are read."""

MAX_AUTHORS: Final = 500
"""Most mailboxes of a From field that are read; a longer list does not name authors."""

MAX_FROM: Final = 8_192
"""Bytes of all From fields that are read."""

_KEPT: Final = 256  # no longer From fields are kept

_QUOTED: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_HOST: Final = re.compile(r"[\s\x00-\x1f,;:<>()\"\\]")
_NO_QUOTES: Final = str.maketrans("", "", '"()')


def address_key(address: str) -> str:
    """The form that all spellings of one address share, and no other address: the case of A to Z does
    not count, and `domain_key` compares domains. A text without @ is a local part."""
    if address.isascii() and address[-1:] != ".":
        return address.lower()  # most addresses: this runs for every MAIL and RCPT
    local, at, domain = address.rpartition("@")
    return fold_ascii(local) + at + domain_key(domain) if at else fold_ascii(address)


def with_a_labels(address: str) -> str:
    """The address with its domain as A-labels and its local part unchanged. An address whose domain is
    ASCII already, or has no such form, stays unchanged."""
    local, at, domain = address.rpartition("@")
    form = None if domain.isascii() or not at else ascii_form(domain)
    return address if form is None else f"{local}@{form}"


def in_ascii(address: str) -> str | None:
    """The address for systems that know ASCII only: its domain as A-labels. None if the local part goes
    beyond ASCII (RFC 6531 section 3.3 leaves no other way to write it), or if the domain is not
    valid."""
    address = with_a_labels(address)
    return address if address.isascii() else None


class Authors(NamedTuple):
    """The authors of a mail, by all its From fields.

    `addresses` are the mailboxes in order, `fields` counts the From fields. `complete` is false if
    the mail has more than is read. `unsure` are texts that some reader takes for authors and this
    one does not: parts of From fields, and From fields that only a lenient reader finds.
    """

    addresses: tuple[Address, ...]
    fields: int
    complete: bool
    unsure: tuple[Address, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """The authors' domains in ASCII form, each once, in order. The first is the one that signs."""
        return _ascii_forms([host for box in self.addresses for host in _hosts(box.address)[-1:]])

    @property
    def possible_domains(self) -> tuple[str, ...]:
        """`domains`, and behind them the domains that some reader may take for an author's: of routes
        (RFC 5322 section 4.4), of addresses with several @, of `unsure`."""
        found = [_hosts(box.address) for box in (*self.addresses, *self.unsure)]
        if len(found) == 1 and len(found[0]) == 1:
            return _ascii_forms(found[0])
        own = [host for hosts in found[: len(self.addresses)] for host in hosts[-1:]]
        return _ascii_forms(own + [host for hosts in found for host in hosts])


def authors_of(head: bytes, field: bytes = b"from") -> Authors:
    """The authors of a mail with this header block (RFC 5322 section 3.6.2). A From field with a byte order
    mark counts if there is no other, wherever it stands: fields of relays may be above a mail's first one.
    Never raises. Time is linear in the header; MAX_FROM and MAX_AUTHORS bound how much is read and kept.
    Another `field`, in lower case, is read in the same way."""
    found = _authors(head, field, marked=False)
    return found if found.fields or BOM not in head else _authors(head, field, marked=True)


def _authors(head: bytes, field: bytes, *, marked: bool) -> Authors:
    values = tuple(all_values(head, field, marked=marked))
    short = sum([len(value) for value, _ in values]) <= _KEPT
    return _authors_in(values) if short else _authors_in.__wrapped__(values)


@lru_cache(maxsize=1_024)  # authors write again
def _authors_in(values: tuple[tuple[bytes, bool], ...]) -> Authors:
    addresses: list[Address] = []
    unsure: list[Address] = []
    left = MAX_FROM
    fields = 0
    for value, sound in values:
        boxes, others = _readings(decode(value[:left]))
        (addresses if sound else unsure).extend(boxes)
        unsure += others
        fields += sound
        left -= len(value) + 1  # empty fields count as well
        if left < 0 or len(boxes) >= MAX_AUTHORS:
            left = -1
            break
    return Authors(tuple(addresses), fields, left >= 0, tuple(unsure))


def parse_addresses(value: bytes, most: int = MAX_ADDRESSES) -> list[Address]:
    """The mailboxes of an unfolded address-list value, groups flattened, at most `most` of them.

    Encoded words in display names are decoded; an encoded word never separates or quotes. Never
    raises.
    """
    return parse_list(decode(value), most)[0]


def _readings(text: str) -> tuple[list[Address], list[Address]]:
    """The mailboxes of a From field, and the texts that another reader may also take for mailboxes."""
    boxes, others, balanced = parse_list(text, MAX_AUTHORS)
    if text.count("@") == sum(box.address.count("@") for box in boxes):
        return boxes, others
    if not balanced:
        # A quote or comment that never ends hides the rest from this reader, but not from every
        # mail client.
        more = [box for box in parse_list(text.translate(_NO_QUOTES), MAX_AUTHORS)[0] if "@" in box.address]
        if not any("@" in box.address for box in boxes):
            return more, others
        others += more
    if "=?" in text:
        # RFC 2047 section 5 forbids commas and blanks in the encoded words of a name. A client that
        # follows it does not read such a word as one.
        others += parse_list(text.replace("=?", "= ?"), MAX_AUTHORS)[0]
    return boxes, others


def _ascii_forms(hosts: list[str]) -> tuple[str, ...]:
    """The ASCII forms of the texts that are domains, each once."""
    return tuple(dict.fromkeys(form for host in hosts if (form := ascii_form(host)) is not None))


def _hosts(address: str) -> list[str]:
    """The texts after each @ of an address, except in quoted strings."""
    if "@" not in address:
        return []
    if '"' in address:
        address = _QUOTED.sub("", address)
    return [_NO_HOST.split(part.lstrip(), maxsplit=1)[0] for part in address.split("@")[1:]]
