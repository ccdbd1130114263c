"""The author domains of a mail, whose policies DMARC asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from functions.message.addresses import authors_of
from listener.mailauth.dkim.fields import MAX_FIELDS, HeaderBlock

MAX_DOMAINS: Final = 8
"""Most author domains to check (RFC 9989 section 11.5 asks for a bound)."""


@dataclass(frozen=True, slots=True)
class Authors:
    """`domains` in order, each once; `fields` counts From fields. `complete` is false when a bound cut
    the list."""

    domains: tuple[str, ...]
    fields: int
    complete: bool


def authors(block: HeaderBlock) -> Authors:
    """All author domains of a mail (RFC 9989 section 5.3.1), first those that the mail is signed for
    and shown with.

    The parser is lenient, because it must find every author that a mail client might show.
    Otherwise a From field that only people can parse would bypass DMARC.
    """
    found = authors_of(block.head)
    domains = found.possible_domains
    complete = found.complete and len(domains) <= MAX_DOMAINS and len(block.fields) < MAX_FIELDS
    return Authors(domains[:MAX_DOMAINS], found.fields, complete)
