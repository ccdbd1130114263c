"""The messages of the queue: S3's events (directly, or through SNS or EventBridge), and the relay's own."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus, unquote_plus

from functions.aws.spool import EVENT_NAME
from functions.bucket.access import ForeignMessage

_TEST: Final = "s3:TestEvent"


class S3Notification(NamedTuple):
    """One object that was stored: its key, its size in bytes if the event has it, and True if S3 itself
    sent the notification."""

    key: str
    size: int
    stored: bool = False


def read_notifications(body: str, bucket: str) -> list[S3Notification]:
    """The objects that a message's body names. Raises ForeignMessage."""
    event = _content(_object(body))
    if event.get("Event") == _TEST:
        raise ForeignMessage("S3's test event")
    records = event.get("Records")
    if not isinstance(records, list) or not records:
        raise ForeignMessage("not an event of S3")
    found = [_read(record, bucket) for record in records]
    notifications = [each for each in found if isinstance(each, S3Notification)]
    if not notifications:
        raise ForeignMessage("; ".join(str(each) for each in found))
    return notifications


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ForeignMessage(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ForeignMessage("not an event of S3")
    return value


def _content(event: dict[str, Any]) -> dict[str, Any]:
    """S3's own event from what a topic or an event bus makes of it. SNS puts it as text into `Message`
    (docs.aws.amazon.com, "Amazon SNS message and JSON formats"); EventBridge has one object in `detail`,
    whose key is not encoded (Amazon S3, "EventBridge event message structure")."""
    if event.get("Type") == "Notification" and isinstance(event.get("Message"), str):
        event = _object(event["Message"])
    detail = event.get("detail")
    if event.get("source") != "aws.s3" or not isinstance(detail, dict):
        return event
    name = str(event.get("detail-type")).replace(" ", "")
    thing = detail.get("object")
    if isinstance(thing, dict) and isinstance(thing.get("key"), str):
        thing = {**thing, "key": quote_plus(thing["key"], errors="replace")}
    else:
        thing = None
    return {
        "Records": [
            {
                "eventName": "ObjectCreated:" if name == "ObjectCreated" else name,
                "s3": {"bucket": detail.get("bucket"), "object": thing},
            }
        ]
    }


def _read(record: Any, bucket: str) -> S3Notification | str:
    try:
        name = str(record["eventName"])
        there = str(record["s3"]["bucket"]["name"])
        key = str(record["s3"]["object"]["key"])
        size = record["s3"]["object"].get("size", 0)
    except (KeyError, TypeError, AttributeError):
        return "a record without bucket and key"
    if there != bucket:
        return f"another bucket: {there}"
    if name == EVENT_NAME:
        return S3Notification(key, 0)
    if not name.removeprefix("s3:").startswith("ObjectCreated:"):
        return f"an event that stores nothing: {name}"
    return S3Notification(unquote_plus(key), size if isinstance(size, int) else 0, stored=True)
