"""The JSON that SES sends for mail that it received, made for the relay's mail (docs/outputs/aws.md).

The fields are those of Amazon's page on the contents of notifications for email receiving. The
action is S3's, and names the stored object if there is one. Fields that name a recipient of another flow
are left out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from functions.message.addresses import Address
from functions.message.charset import decode, decode_words
from functions.message.envelope import Envelope
from functions.message.event import header
from functions.message.event.cloudevent import encode, iso
from functions.message.fields import first_value, iter_fields
from functions.message.mime import Parts

MAX_HEADERS: Final = 10_240
"""SES gives at most 10 KB of headers and says so."""

_VERDICTS: Final[Mapping[str, str]] = {
    "pass": "PASS",
    "fail": "FAIL",
    "softfail": "FAIL",
    "policy": "FAIL",
    "permerror": "FAIL",
    "temperror": "PROCESSING_FAILED",
}
"""SES's words for results of RFC 8601. Every other result is GRAY, a missing one included."""

_ADDRESSES: Final = 500  # of each list; SES itself takes 50 recipients


def build(envelope: Envelope, parts: Parts, *, flow: str, storage_url: str | None, max_bytes: int) -> bytes:
    """The notification of a mail as one flow's outputs send it, UTF-8 JSON of at most `max_bytes` bytes
    (at least cloudevent.MIN_BYTES)."""
    hidden = header.hidden_recipients(envelope, parts, flow)
    for most in (MAX_HEADERS, 2_000, 0):
        for addresses in (_ADDRESSES * 2, 100, 10):
            event = _event(envelope, parts, flow, storage_url, most, addresses, hidden)
            body = encode(event)
            if len(body) <= max_bytes:
                return body
    return body


def _event(
    envelope: Envelope,
    parts: Parts,
    flow: str,
    storage_url: str | None,
    most: int,
    addresses: int,
    hidden: header.Hidden,
) -> dict[str, Any]:
    recipients = list(envelope.recipients_of(flow))[:addresses]
    received = iso(envelope.received_at)
    headers, truncated = _headers(parts.head, most, hidden)
    notes = envelope.notes.get(flow)
    results = notes.results if notes is not None else {}
    dmarc = results.get("dmarc")
    receipt: dict[str, Any] = {
        "timestamp": received,
        "processingTimeMillis": max(1, int(time.time() * 1000) - envelope.received),
        "recipients": recipients,
        "spamVerdict": {"status": "GRAY"},
        "virusVerdict": {"status": "GRAY"},
        "spfVerdict": _verdict(results.get("spf")),
        "dkimVerdict": _verdict(results.get("dkim")),
        "dmarcVerdict": _verdict(dmarc),
        "action": _action(storage_url),
    }
    if receipt["dmarcVerdict"]["status"] == "FAIL" and isinstance(dmarc, Mapping):
        receipt["dmarcPolicy"] = str(dmarc.get("policy") or "none").upper()
    return {
        "notificationType": "Received",
        "mail": {
            "timestamp": received,
            "source": envelope.reverse_path,
            "messageId": envelope.id,
            "destination": recipients,
            "headersTruncated": truncated,
            "headers": headers,
            "commonHeaders": _common(envelope, parts, addresses, hidden),
        },
        "receipt": receipt,
    }


def _headers(head: bytes, most: int, hidden: header.Hidden) -> tuple[list[dict[str, str]], bool]:
    found: list[dict[str, str]] = []
    size = 0
    for name, value in iter_fields(head):
        size += len(name) + len(value) + 4
        if size > most:
            return found, True
        text = header.permitted(decode(name).lower(), decode(value), hidden)
        if text is not None:
            found.append({"name": decode(name), "value": text})
    return found, False


def _common(envelope: Envelope, parts: Parts, most: int, hidden: header.Hidden) -> dict[str, Any]:
    common: dict[str, Any] = {"returnPath": envelope.reverse_path, "from": _written(parts.from_[:most])}
    date = first_value(parts.head, b"date")
    common["date"] = decode(date)[:200] if date is not None else ""
    common["to"] = _written(parts.to[:most])
    bcc = header.without(parts.bcc, hidden)
    for name, addresses in (("cc", parts.cc), ("bcc", bcc), ("replyTo", parts.reply_to)):
        if addresses:
            common[name] = _written(addresses[:most])
    sender = first_value(parts.head, b"sender")
    if sender is not None:
        common["sender"] = [decode_words(sender)[:998]]
    common["messageId"] = (parts.message_id or "")[:998]
    common["subject"] = (parts.subject or "")[:2_000]
    return common


def _written(addresses: Iterable[Address]) -> list[str]:
    return [
        f"{json.dumps(name, ensure_ascii=False) if ',' in name else name} <{address}>"[:1_000]
        if name
        else address[:1_000]
        for name, address in addresses
    ]


def _verdict(result: Any) -> dict[str, str]:
    word = result.get("result") if isinstance(result, Mapping) else None
    return {"status": _VERDICTS.get(str(word), "GRAY")}


def _action(storage_url: str | None) -> dict[str, str]:
    if storage_url is None:
        return {"type": "S3", "bucketName": "", "objectKeyPrefix": "", "objectKey": ""}
    place = urlsplit(storage_url)
    key = storage_url.removeprefix(f"{place.scheme}://{place.netloc}/")
    prefix = key.rpartition("/")[0]
    return {"type": "S3", "bucketName": place.netloc, "objectKeyPrefix": prefix, "objectKey": key}
