"""A mail of two flows, through listener and function: its parts in Cloud Storage, its events in Pub/Sub."""

from __future__ import annotations

import hashlib
import json
import smtplib
from collections.abc import Callable
from typing import Any

from tests.support.clouds.gcp_stack import Stack
from tests.support.mails.event_schema import mistakes
from tests.support.mails.stored import CANARY, with_everything
from tests.support.net import HOST
from tests.support.servers.relay import Relay

Stacks = Callable[..., Stack]
Listeners = Callable[..., Relay]


def output(name: str) -> dict[str, Any]:
    return {
        "type": "gcp",
        "storage": {"bucket": "{bucket}", "path": f"{name}/${{id}}", "type": "parts"},
        "pubsub": {"topic": f"{{topic:{name}}}"},
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

    (message,) = stack.messages("ours")
    event = json.loads(message["data"])
    assert message["attributes"] == {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "smtp-relay-flow": "ours",
        "smtp-relay-from-domain": "example.com",
        "smtp-relay-to-domain": "example.com",
        "smtp-relay-id": event["id"],
    }
    stored = stack.stored()
    manifest = json.loads(stored[f"ours/{event['id']}/manifest.json"])
    assert "canary" not in (json.dumps(event) + json.dumps(manifest)).lower()
    assert event["data"]["envelope"]["to"] == manifest["envelope"]["to"] == ["bob@example.com"]
    named = [manifest["raw"], manifest["text"], manifest["html"], *manifest["attachments"]]
    assert {key for key in stored if key.startswith("ours/")} == {
        *(each["key"] for each in named),
        f"ours/{event['id']}/manifest.json",
    }
    for each in named:
        assert hashlib.sha256(stored[each["key"]]).hexdigest() == each["sha256"]
    (attachment,) = event["data"]["email"]["attachments"]
    assert stored[attachment["url"].removeprefix(f"gs://{stack.target}/")] == b"PDF"
    assert event["data"]["storage"]["manifest"] == f"gs://{stack.target}/ours/{event['id']}/manifest.json"
    assert event["data"]["truncated"] == {"fields": [], "rest": manifest["raw"]["url"]}

    (said,) = stack.messages("theirs")
    other = json.loads(said["data"])
    assert other["data"]["envelope"]["to"] == [CANARY]
    assert stack.dead_records() == []
    told = [entry for entry in stack.function.entries() if entry.get("flow") == "ours"]
    assert told
    assert "canary" not in json.dumps(told)
    assert mistakes([event, other]) == ["", ""]
