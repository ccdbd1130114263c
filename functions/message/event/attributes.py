"""The attributes of a message about a mail, by which subscribers filter without parsing it.

They are the same on both clouds. A value never holds a local part, and what a stranger writes can only
leave an attribute out: domains are A-labels (RFC 5890 section 2.3.2.1), which every service takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from functions.message.domains import ascii_form
from functions.message.envelope import Envelope
from functions.message.mime import Parts
from functions.message.text import printable

FLOW: Final = "smtp-relay-flow"
FROM_DOMAIN: Final = "smtp-relay-from-domain"
TO_DOMAIN: Final = "smtp-relay-to-domain"
DMARC: Final = "smtp-relay-dmarc"
ID: Final = "smtp-relay-id"

MAX_VALUE: Final = 256
"""Bytes of a value: what a filter policy of a subscription may compare."""


def attributes_of(envelope: Envelope, parts: Parts, flow: str) -> dict[str, str]:
    """Name to value, the ones that matter most first; what is not known, or not one domain, is left out.

    The sender's domain is that of `data.email.from`, which DMARC judges; the recipients are this flow's.
    """
    notes = envelope.notes.get(flow)
    dmarc = notes.results.get("dmarc") if notes is not None else None
    result = dmarc.get("result") if isinstance(dmarc, Mapping) else None
    found = {
        FLOW: _cut(printable(flow)),
        FROM_DOMAIN: _one_domain(author.address for author in parts.from_),
        TO_DOMAIN: _one_domain(envelope.recipients_of(flow)),
        DMARC: result if isinstance(result, str) and result.isascii() and result.isalpha() else "",
        ID: envelope.id,
    }
    return {name: value for name, value in found.items() if value}


def _one_domain(addresses: Iterable[str]) -> str:
    """The domain that all addresses share; "" if they differ, or if one has no domain name."""
    domains = {ascii_form(address.rpartition("@")[2]) if "@" in address else None for address in addresses}
    return (domains.pop() or "") if len(domains) == 1 else ""


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:MAX_VALUE].decode("utf-8", "ignore")
