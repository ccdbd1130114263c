"""The objects that a push names."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.bucket.access import ForeignMessage
from functions.gcp.notifications import GcsNotification, notification_message, read_notification

TOLD = {"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "spool/ä +%2F.eml"}


def push(attributes: Any = TOLD, **more: Any) -> dict[str, Any]:
    message = {"attributes": attributes, "messageId": "7", **more.pop("message", {})}
    return {"message": message, "subscription": "s", **more}


def test_a_notification() -> None:
    data = base64.b64encode(json.dumps({"size": "123", "name": "x"}).encode()).decode()
    found = read_notification(push(message={"data": data}, deliveryAttempt=3), "b")
    assert found == GcsNotification("spool/ä +%2F.eml", 123, 3, stored=True)  # keys stay unchanged


@pytest.mark.parametrize(
    "data",
    [
        None,
        "",
        "!",
        "bm8=",
        base64.b64encode(b'{"size": -5}').decode(),
        base64.b64encode(b'{"size": 1e999}').decode(),
        base64.b64encode(b"[" * 100_000).decode(),
    ],
)
def test_without_a_size(data: Any) -> None:
    assert read_notification(push(message={"data": data}), "b").size == 0


@pytest.mark.parametrize("attempt", [None, "3", 0, -1, [], 1.5])
def test_the_first_attempt_where_nothing_else_is_said(attempt: Any) -> None:
    assert read_notification(push(deliveryAttempt=attempt), "b").attempt == 1


def test_our_own_notification_is_read_like_the_buckets() -> None:
    message = notification_message("b", "spool/x")
    found = read_notification({"message": {"attributes": message["attributes"], "messageId": "1"}}, "b")
    assert found.key == "spool/x"
    assert not found.stored


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "not a push"),
        ([], "not a push"),
        ({}, "not a push"),
        ({"message": "x"}, "not a push"),
        ({"message": {}}, "no attributes"),
        (push([]), "no attributes"),
        (push({}), "names no object"),
        (push(TOLD | {"objectId": ""}), "names no object"),
        (push(TOLD | {"eventType": "OBJECT_DELETE"}), "stores nothing: OBJECT_DELETE"),
        (push(TOLD | {"eventType": None}), "stores nothing"),
        (push(TOLD | {"bucketId": "c"}), "another bucket: c"),
    ],
)
def test_what_is_not_ours(body: Any, reason: str) -> None:
    with pytest.raises(ForeignMessage, match=reason):
        read_notification(body, "b")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*TOLD, "message", "data"]), inner),
    max_leaves=12,
)


@given(JSON)
def test_nothing_else_comes_out(body: Any) -> None:
    for each in (body, {"message": body}, {"message": {"attributes": TOLD, "data": body}}):
        with suppress(ForeignMessage):
            assert isinstance(read_notification(each, "b"), GcsNotification)
