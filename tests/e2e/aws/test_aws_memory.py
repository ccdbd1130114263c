"""Eight hostile mails at once, that an output stores and tells SQS of, in the relay's own process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import process
from tests.support.clients.crowd import send_together
from tests.support.clouds.aws_stack import Stack
from tests.support.clouds.ministack import Ministack
from tests.support.mails import costly
from tests.support.servers.relay import Relay

pytestmark = pytest.mark.slow

MOST = 128 * 1_048_576
LONGEST = 10_000_000
"""Characters of text that an event may hold, far more than SQS takes."""


def test_hostile_mails_at_once_take_little_memory(
    stack_for: Callable[..., Stack], new_relay: Callable[..., Relay], aws: Ministack
) -> None:
    out = {"type": "aws", "pubsub": {"topic": "{queue:out}", "truncate": LONGEST}}
    stack = stack_for({"in": [out]}, deployed=False, notify=False)
    flow = {"filters": [{"type": "whitelist", "ips": ["127.0.0.1"]}], **stack.raw["flows"]["in"]}
    relay = new_relay({"flows": {"in": flow}}, env=aws.environment).start()
    send_together(relay.port, [costly.html(100_000)])
    assert len(stack.messages("out")) == 1
    mails = costly.mixed()
    growth = process.Growth(relay.pid)
    assert {reply.code for reply in send_together(relay.port, mails)} == {250}
    events = stack.messages("out", least=len(mails), seconds=120)
    most = growth.most()
    assert len(events) == len(mails)
    assert all(event["data"]["email"]["text"] for event in events)
    assert most <= MOST, f"{most / 1_048_576:.0f} MiB above idle"
