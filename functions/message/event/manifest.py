"""The manifest of a mail that was stored in parts: what was stored where, and the mail's envelope."""

from __future__ import annotations

from typing import Any, Final

from functions.message.envelope import Envelope
from functions.message.event.attachments import MAX_NAME, facts
from functions.message.event.cloudevent import encode, iso
from functions.message.event.objects import StoredMail
from functions.message.mime import Parts

SCHEMA: Final = 1

CONTENT_TYPE: Final = "application/json"


def build(envelope: Envelope, parts: Parts, *, flow: str, stored: StoredMail) -> bytes:
    """The manifest as JSON, the same at every attempt; it names this flow's recipients only. `raw`, `text`
    and `html` are there if the mail has them."""
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "id": envelope.id,
        "flow": flow,
        "time": iso(envelope.received_at),
        "envelope": {
            "from": envelope.reverse_path,
            "to": list(envelope.recipients_of(flow)),
            "parameters": list(envelope.parameters),
        },
        **{name: there.facts() for name, there in stored.named.items()},
        "attachments": [
            {"filename": parts.attachments[number].filename[:MAX_NAME]}
            | facts(parts.attachments[number])
            | there.facts()
            for number, there in stored.attachments.items()
        ],
    }
    return encode(manifest)
