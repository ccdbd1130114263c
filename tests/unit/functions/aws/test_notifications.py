"""Messages of the queue: the objects that they name, and foreign ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from functions.aws.notifications import S3Notification, read_notifications
from functions.aws.spool import notification_body
from functions.bucket.access import ForeignMessage


def s3_event(
    key: str = "a", bucket: str = "spool", name: str = "ObjectCreated:Put", size: Any = 7
) -> dict[str, Any]:
    return {
        "eventSource": "aws:s3",
        "eventName": name,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": size}},
    }


def test_an_event_of_s3_with_its_key_decoded() -> None:
    body = json.dumps({"Records": [s3_event("relay/spool/a+b%2Bc%C3%A9.eml")]})
    assert read_notifications(body, "spool") == [S3Notification("relay/spool/a b+cé.eml", 7, stored=True)]


def test_our_own_notification() -> None:
    assert read_notifications(notification_body("spool", "relay/spool/a+b.eml"), "spool") == [
        S3Notification("relay/spool/a+b.eml", 0)
    ]


def test_what_is_ours_among_others() -> None:
    body = json.dumps(
        {"Records": [s3_event(bucket="other"), s3_event("k"), s3_event(name="ObjectRemoved:Delete")]}
    )
    assert read_notifications(body, "spool") == [S3Notification("k", 7, stored=True)]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[" * 100_000,
        "9" * 10_000,
        "[]",
        "null",
        '"x"',
        "{}",
        '{"Records": []}',
        '{"Records": [1]}',
        '{"Records": [{"s3": null}]}',
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "spool"}),
        json.dumps({"Records": [s3_event(bucket="other")]}),
        json.dumps({"Records": [s3_event(name="ObjectRemoved:Delete")]}),
    ],
)
def test_not_ours(body: str) -> None:
    with pytest.raises(ForeignMessage):
        read_notifications(body, "spool")
