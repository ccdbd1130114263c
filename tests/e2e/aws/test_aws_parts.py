"""A mail of two flows, through the listener and the function: its parts in S3, its events in SQS."""

from __future__ import annotations

import hashlib
import json
import smtplib
from collections.abc import Callable
from typing import Any

from tests.support.clouds.aws_stack import Stack
from tests.support.mails.event_schema import mistakes
from tests.support.mails.life import lines_of
from tests.support.mails.stored import CANARY, with_everything
from tests.support.net import HOST
from tests.support.servers.relay import Relay

Stacks = Callable[..., Stack]
Listeners = Callable[..., Relay]


def output(name: str) -> dict[str, Any]:
    return {
        "type": "aws",
        "storage": {"bucket": "{bucket}", "path": f"{name}/${{id}}", "type": "parts"},
        "pubsub": {"topic": f"{{queue:{name}}}"},
    }


def test_each_flow_has_its_own_parts_event_and_attributes(stack_for: Stacks, listener_for: Listeners) -> None:
    stack = stack_for({name: [output(name)] for name in ("ours", "theirs")})
    for flow, address in (("ours", "bob@example.com"), ("theirs", CANARY)):
        stack.raw["flows"][flow]["filters"] = [{"type": "whitelist", "to": [address]}]
    relay = listener_for(stack)
    mail = f"Bcc: {CANARY}\r\nReceived: from a by b id 1 for <{CANARY}>; now\r\n".encode() + with_everything()
    with smtplib.SMTP(HOST, relay.port) as client:
        client.sendmail("ada@example.com", ["bob@example.com", CANARY], mail)
    stack.settled()

    (message,) = stack.taken("ours")
    event = json.loads(message["Body"])
    attributes = {name: each["StringValue"] for name, each in message["MessageAttributes"].items()}
    assert attributes == {
        "smtp-relay-flow": "ours",
        "smtp-relay-from-domain": "example.com",
        "smtp-relay-to-domain": "example.com",
        "smtp-relay-id": event["id"],
    }
    stored = stack.stored()
    manifest = json.loads(stored[f"ours/{event['id']}/manifest.json"])
    assert "canary" not in (message["Body"] + json.dumps(manifest)).lower()
    assert event["data"]["envelope"]["to"] == manifest["envelope"]["to"] == ["bob@example.com"]
    named = [manifest["raw"], manifest["text"], manifest["html"], *manifest["attachments"]]
    assert {key for key in stored if key.startswith("ours/")} == {
        *(each["key"] for each in named),
        f"ours/{event['id']}/manifest.json",
    }
    for each in named:
        assert hashlib.sha256(stored[each["key"]]).hexdigest() == each["sha256"]
    (attachment,) = event["data"]["email"]["attachments"]
    assert stored[attachment["url"].removeprefix(f"s3://{stack.target}/")] == b"PDF"
    assert event["data"]["storage"]["manifest"] == f"s3://{stack.target}/ours/{event['id']}/manifest.json"
    assert event["data"]["truncated"] == {"fields": [], "rest": manifest["raw"]["url"]}

    (other,) = stack.messages("theirs")
    assert other["data"]["envelope"]["to"] == [CANARY]
    assert stack.dead_records() == []
    told = [line for line in lines_of(stack.aws.log(), event["id"]) if line.get("flow") == "ours"]
    assert told
    assert "canary" not in json.dumps(told)
    assert mistakes([event, other]) == ["", ""]
