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


def through_sns(body: str) -> str:
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": body})


def of_event_bridge(key: Any = "relay/spool/a b+c%2B.eml", kind: str = "Object Created", **other: Any) -> str:
    detail = {"bucket": {"name": "spool"}, "object": {"key": key, "size": 7}, "reason": "PutObject"}
    return json.dumps(
        {"version": "0", "source": "aws.s3", "detail-type": kind, "detail": {**detail, **other}}
    )


def test_an_event_of_s3_through_sns() -> None:
    body = json.dumps({"Records": [s3_event("relay/spool/a+b%2Bc.eml"), s3_event(bucket="other")]})
    assert read_notifications(through_sns(body), "spool") == [
        S3Notification("relay/spool/a b+c.eml", 7, stored=True)
    ]


def test_an_event_of_event_bridge_whose_key_is_not_encoded() -> None:
    expected = [S3Notification("relay/spool/a b+c%2B.eml", 7, stored=True)]
    assert read_notifications(of_event_bridge(), "spool") == expected
    assert read_notifications(through_sns(of_event_bridge()), "spool") == expected


def test_a_key_that_is_no_text_is_read_as_one_that_is_not_there() -> None:
    (found,) = read_notifications(of_event_bridge("a\ud800"), "spool")
    assert found.key == "a?"


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
        through_sns("not JSON"),
        through_sns("[" * 100_000),
        through_sns(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "spool"})),
        through_sns(through_sns(json.dumps({"Records": [s3_event()]}))),
        json.dumps({"Type": "Notification", "Message": 7}),
        of_event_bridge(kind="Object Deleted"),
        of_event_bridge(bucket={"name": "other"}),
        of_event_bridge(bucket=None),
        of_event_bridge(key=7),
        of_event_bridge(object=None),
    ],
)
def test_not_ours(body: str) -> None:
    with pytest.raises(ForeignMessage):
        read_notifications(body, "spool")
