"""The output `webhook` in the Lambda function: beside a store, and tried again with the same id."""

from __future__ import annotations

import json
import smtplib
import urllib.request
from collections.abc import Callable

import standardwebhooks

from tests.support.clouds.aws_stack import Stack
from tests.support.mails.stored import strip_added_fields
from tests.support.net import HOST
from tests.support.servers.receiver import answer, in_turn, receiving
from tests.support.servers.relay import Relay

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MAIL = b"From: a@example.com\r\nSubject: hello\r\n\r\nhi\r\n"


def test_a_mail_is_stored_and_posted_with_a_link(
    stack_for: Callable[..., Stack], listener_for: Callable[..., Relay]
) -> None:
    with receiving() as receiver:
        receiver.react = in_turn(answer(429, retry_after="1"), answer(200))
        store = {"type": "aws", "name": "store", "storage": {"bucket": "{bucket}", "path": "raw/"}}
        hook = {
            "type": "webhook",
            "name": "hook",
            "url": f"{receiver.url}/in",
            "secret": SECRET,
            "stored": "store",
            "presign": "10m",
            "retry": {"first": "1s", "max": "1s"},
        }
        stack = stack_for({"in": [store, hook]})
        relay = listener_for(stack)
        with smtplib.SMTP(HOST, relay.port) as client:
            client.sendmail("ada@example.com", ["bob@example.com"], MAIL)
        stack.settled()
        first, second = receiver.received
    assert first.id == second.id
    event = standardwebhooks.Webhook(SECRET).verify(second.body.decode(), second.headers)
    (key,) = stack.stored()
    there = event["data"]["storage"]
    assert there["url"] == f"s3://{stack.target}/{key}"
    assert "X-Amz-Expires=600" in there["link"] or "Expires=" in there["link"]
    with urllib.request.urlopen(there["link"], timeout=20) as answered:
        stored = answered.read()
    assert strip_added_fields(stored[stored.index(b"x-smtp-relay:") :]) == MAIL
    assert json.loads(first.body)["id"] == event["id"]


def test_a_mail_is_posted_once_while_another_output_fails(
    stack_for: Callable[..., Stack], listener_for: Callable[..., Relay]
) -> None:
    """A receipt says that the receiver has it; the effects of a run that is repeated are not."""
    with receiving() as receiver, receiving() as failing:
        failing.react = in_turn(answer(503), answer(503), answer(204, b""))
        retry = {"retry": {"first": "1s", "max": "1s"}}
        hook = {"type": "webhook", "name": "hook", "url": receiver.url, "format": "raw", **retry}
        other = {"type": "webhook", "name": "other", "url": failing.url, **retry}
        stack = stack_for({"in": [hook, other]})
        relay = listener_for(stack)
        with smtplib.SMTP(HOST, relay.port) as client:
            client.sendmail("ada@example.com", ["bob@example.com"], MAIL)
        stack.settled()
        assert len(receiver.received) == 1
        assert len(failing.received) == 3
        assert len(set(failing.ids())) == 1
    (one,) = receiver.received
    assert strip_added_fields(one.body[one.body.index(b"x-smtp-relay:") :]) == MAIL
    assert one.headers["smtp-relay-rcpt-to"] == "bob@example.com"
