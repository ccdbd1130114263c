"""A mail of two flows, through the listener and the function: its parts in S3, its events in SQS."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.clouds import two_flows
from tests.support.clouds.aws_stack import Stack
from tests.support.mails.event_schema import mistakes
from tests.support.mails.life import lines_of
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
    stack = stack_for({name: [output(name)] for name in two_flows.NAMES})
    two_flows.send(stack, listener_for)

    (message,) = stack.taken("ours")
    assert "canary" not in message["Body"].lower()
    event = json.loads(message["Body"])
    attributes = {name: each["StringValue"] for name, each in message["MessageAttributes"].items()}
    assert attributes == {
        "smtp-relay-flow": "ours",
        "smtp-relay-from-domain": "example.com",
        "smtp-relay-to-domain": "example.com",
        "smtp-relay-id": event["id"],
    }
    (other,) = stack.messages("theirs")
    two_flows.check(stack, "s3", event, other)
    assert stack.dead_records() == []
    told = [line for line in lines_of(stack.aws.log(), event["id"]) if line.get("flow") == "ours"]
    assert told
    assert "canary" not in json.dumps(told)
    assert mistakes([event, other]) == ["", ""]
