"""Mails as a listener would have spooled them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from functions.ids import uuid7
from functions.message.envelope import Client, Envelope, FlowNotes, Recipient
from functions.spool.object import encode_object, spool_key

MAIL = (
    b"From: Ada <ada@example.com>\r\nTo: bob@example.com\r\nSubject: hello\r\n"
    b"Message-ID: <1@example.com>\r\n\r\nhi\r\n"
)


def envelope_of(
    content: bytes = MAIL,
    *,
    flows: Sequence[str] = ("in",),
    recipients: Sequence[str] = ("bob@example.com",),
    reverse_path: str = "ada@example.com",
    age: float = 0.0,
    results: Mapping[str, Any] | None = None,
    **more: Any,
) -> Envelope:
    """An envelope received `age` seconds ago, each recipient taken by all flows."""
    ms = int((time.time() - age) * 1000)
    notes = {name: FlowNotes(results=dict(results)) for name in flows} if results else {}
    return Envelope(
        **{
            "id": uuid7(ms),
            "session": uuid7(ms),
            "received": ms,
            "reverse_path": reverse_path,
            "recipients": tuple(Recipient(address=each, flows=tuple(flows)) for each in recipients),
            "client": Client(ip="192.0.2.1", port=4000, name="client.example.com"),
            "helo": "client.example.com",
            "server": "127.0.0.1:25",
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "notes": notes,
            **more,
        }
    )


def spool_object(envelope: Envelope, content: bytes = MAIL, prefix: str = "") -> tuple[str, bytes]:
    """Key and bytes of the spool object."""
    return prefix + spool_key(envelope.id, envelope.received_at), encode_object(envelope, content)
