"""The output `webhook` in the Cloud Run function: beside a store, and tried again with the same id."""

from __future__ import annotations

import smtplib
from collections.abc import Callable

import standardwebhooks

from tests.support.clouds.gcp_stack import Stack
from tests.support.net import HOST
from tests.support.servers.receiver import answer, in_turn, receiving
from tests.support.servers.relay import Relay

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MAIL = b"From: a@example.com\r\nSubject: hello\r\n\r\nhi\r\n"


def test_a_mail_is_stored_and_posted(
    stack_for: Callable[..., Stack], listener_for: Callable[..., Relay]
) -> None:
    with receiving() as receiver:
        receiver.react = in_turn(answer(503), answer(200))
        store = {"type": "gcp", "name": "store", "storage": {"bucket": "{bucket}", "path": "raw/"}}
        hook = {
            "type": "webhook",
            "name": "hook",
            "url": f"{receiver.url}/in",
            "secret": SECRET,
            "stored": "store",
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
    assert event["data"]["storage"]["url"] == f"gs://{stack.target}/{key}"
    assert "link" not in event["data"]["storage"]
