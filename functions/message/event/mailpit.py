"""The JSON that Mailpit posts about a mail: its MessageSummary (docs/outputs/webhook.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from functions.message.addresses import Address
from functions.message.envelope import Envelope
from functions.message.event import header
from functions.message.event.cloudevent import encode, iso
from functions.message.html_text import text_of_html
from functions.message.mime import Parts

SNIPPET: Final = 200
"""Characters of the snippet: Mailpit's."""

_ADDRESSES: Final = 500  # of each list
_LONGEST: Final = 1_000  # characters of each value
_BLANKS: Final = re.compile(r"\s+")


def build(envelope: Envelope, parts: Parts, *, flow: str) -> bytes:
    """The summary of a mail as one flow's outputs send it: UTF-8 JSON. `ID` is the mail's id."""
    hidden = header.hidden_recipients(envelope, parts, flow)
    files = [leaf for leaf in parts.leaves if leaf.disposition == "attachment"]
    summary: dict[str, Any] = {
        "ID": envelope.id,
        "MessageID": (parts.message_id or "").strip("<>")[:_LONGEST],
        "Read": False,
        "From": next(iter(_people(parts.from_)), None),
        "To": _people(parts.to),
        "Cc": _people(parts.cc),
        "Bcc": _people(header.without(parts.bcc, hidden)),
        "ReplyTo": _people(parts.reply_to),
        "Subject": (parts.subject or "")[:_LONGEST],
        "Created": iso(envelope.received_at),
        "Username": (envelope.user or "")[:_LONGEST],
        "Tags": [],
        "Size": envelope.size,
        "Attachments": len(files),
        "Snippet": _snippet(parts),
    }
    return encode(summary)


def _people(addresses: Iterable[Address]) -> list[dict[str, str]]:
    few = list(addresses)[:_ADDRESSES]
    return [{"Name": one.name[:_LONGEST], "Address": one.address[:_LONGEST]} for one in few]


def _snippet(parts: Parts) -> str:
    text = text_of_html(parts.html) if parts.html else parts.text or ""
    line = _BLANKS.sub(" ", text[: SNIPPET * 20].replace("\ufeff", " ")).strip()
    return line if len(line) <= SNIPPET else line[:SNIPPET] + "..."
