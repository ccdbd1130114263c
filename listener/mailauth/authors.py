"""The author domains of a mail, whose policies DMARC asks for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from functions.message.addresses import authors_of
from listener.mailauth.dkim.fields import MAX_FIELDS, HeaderBlock, value_of

MAX_DOMAINS: Final = 8
"""Most author domains to check (RFC 9989 section 11.5 asks for a bound)."""


@dataclass(frozen=True, slots=True)
class Authors:
    """`domains` in order, each once; `fields` counts From fields. `complete` is false when a bound cut
    the list."""

    domains: tuple[str, ...]
    fields: int
    complete: bool


_KEPT: Final = 256  # bytes; no longer From fields are kept


def authors(block: HeaderBlock) -> Authors:
    """All author domains of a mail (RFC 9989 section 5.3.1), first those that the mail is signed for
    and shown with.

    The parser is lenient, because it must find every author that a mail client might show.
    Otherwise a From field that only people can parse would bypass DMARC.
    """
    if block.plain and block.count < MAX_FIELDS:
        # No line is left that only a lenient reader takes for a From field.
        fields = tuple(block.by_name.get(b"from", ()))
        if sum(map(len, fields)) <= _KEPT:
            return _of_fields(fields)
    return of_head(block.head, block.count)


@lru_cache(maxsize=1_024)  # authors write again
def _of_fields(fields: tuple[bytes, ...]) -> Authors:
    return of_head(b"".join([b"From:" + value_of(raw) + b"\r\n" for raw in fields]), len(fields))


def of_head(head: bytes, fields: int) -> Authors:
    """The authors of a header block with this number of fields, searched for."""
    found = authors_of(head)
    domains = found.possible_domains
    complete = found.complete and len(domains) <= MAX_DOMAINS and fields < MAX_FIELDS
    return Authors(domains[:MAX_DOMAINS], found.fields, complete)
