"""Reads pushes: the bucket's own notifications, and the relay's messages in the same form.

The push is Pub/Sub's (its JSON with a wrapped message). The message's attributes hold all the data,
as Cloud Storage sets them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from functions.bucket.access import ForeignMessage

FINALIZE: Final = "OBJECT_FINALIZE"
"""The event of an object that was stored."""


_OURS: Final = "smtpRelay"
"""The attribute that tells the relay's own messages from the bucket's."""


class GcsNotification(NamedTuple):
    """One object that was stored: its key, its size in bytes if the event has it, the number of this
    delivery (from 1), and True if Cloud Storage itself sent the notification."""

    key: str
    size: int
    attempt: int
    stored: bool = False


def read_notification(push: Any, bucket: str) -> GcsNotification:
    """The object that a push names. Raises ForeignMessage."""
    message = push.get("message") if isinstance(push, Mapping) else None
    if not isinstance(message, Mapping):
        raise ForeignMessage("not a push of Pub/Sub")
    attributes = message.get("attributes")
    if not isinstance(attributes, Mapping):
        raise ForeignMessage("not a notification of Cloud Storage: it has no attributes")
    kind, there, key = (attributes.get(name) for name in ("eventType", "bucketId", "objectId"))
    if not isinstance(there, str) or not isinstance(key, str) or not key:
        raise ForeignMessage("not a notification of Cloud Storage: it names no object")
    if kind != FINALIZE:
        raise ForeignMessage(f"an event that stores nothing: {str(kind)[:100]}")
    if there != bucket:
        raise ForeignMessage(f"another bucket: {there[:300]}")
    attempt = push.get("deliveryAttempt")
    return GcsNotification(
        key,
        _size(message.get("data")),
        attempt if isinstance(attempt, int) and attempt > 0 else 1,
        stored=_OURS not in attributes,
    )


def notification_message(bucket: str, key: str) -> dict[str, Any]:
    """The message for the mail under a key, in the form of the bucket's notification."""
    attributes = {
        "eventType": FINALIZE,
        "bucketId": bucket,
        "objectId": key,
        "payloadFormat": "NONE",
        _OURS: "sweep",
    }
    return {"data": b"", "attributes": attributes}


def _size(data: Any) -> int:
    """The object's size in the notification's payload (JSON_API_V1), 0 if it has none."""
    try:
        return max(0, int(json.loads(base64.b64decode(data))["size"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0
