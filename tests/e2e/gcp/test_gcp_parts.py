"""A mail of two flows, through listener and function: its parts in Cloud Storage, its events in Pub/Sub."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.clouds import two_flows
from tests.support.clouds.gcp_stack import Stack
from tests.support.mails.event_schema import mistakes
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
    stack = stack_for({name: [output(name)] for name in two_flows.NAMES})
    two_flows.send(stack, listener_for)

    (message,) = stack.messages("ours")
    event = json.loads(message["data"])
    assert message["attributes"] == {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "smtp-relay-flow": "ours",
        "smtp-relay-from-domain": "example.com",
        "smtp-relay-to-domain": "example.com",
        "smtp-relay-id": event["id"],
    }
    (said,) = stack.messages("theirs")
    other = json.loads(said["data"])
    two_flows.check(stack, "gs", event, other)
    assert stack.dead_records() == []
    told = [entry for entry in stack.function.entries() if entry.get("flow") == "ours"]
    assert told
    assert "canary" not in json.dumps(told)
    assert mistakes([event, other]) == ["", ""]
