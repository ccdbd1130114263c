"""Eight hostile mails at once, whose events of up to 10 MB go to Pub/Sub out of the relay's own process."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest

from tests.support import process
from tests.support.clients.crowd import send_together
from tests.support.clouds.gcp import PROJECT, Pubsub
from tests.support.mails import costly
from tests.support.net import wait_until
from tests.support.servers.relay import Relay

pytestmark = pytest.mark.slow

MOST = 128 * 1_048_576
LONGEST = 10_000_000
"""Characters of text that an event may hold: about as many as Pub/Sub takes."""

SETS = {
    "mixed": costly.mixed,
    "text": partial(costly.alike, costly.emoji),
    "html": partial(costly.alike, costly.emoji_in_html),
    "smaller": partial(costly.alike, costly.emoji_in_html, 6_000_000),
}


@pytest.mark.parametrize("name", SETS)
def test_hostile_mails_at_once_take_little_memory(
    name: str, pubsub: Pubsub, new_relay: Callable[..., Relay]
) -> None:
    mails = SETS[name]()
    topic = pubsub.topic(f"memory-{name}")
    pubsub.subscribe(f"memory-{name}", topic)
    output = {"type": "gcp", "pubsub": {"topic": topic, "truncate": LONGEST}}
    flow = {"filters": [{"type": "whitelist", "ips": ["127.0.0.1"]}], "outputs": [output]}
    environment = {"PUBSUB_EMULATOR_HOST": pubsub.address, "GOOGLE_CLOUD_PROJECT": PROJECT}
    relay = new_relay({"flows": {"in": flow}}, env=environment).start()
    events = []

    def come(count: int) -> bool:
        events.extend(json.loads(message["data"]) for message in pubsub.pull(f"memory-{name}"))
        return len(events) >= count

    send_together(relay.port, [costly.html(100_000)])
    wait_until(lambda: come(1), seconds=60, what="the first event")
    growth = process.Growth(relay.pid)
    assert {reply.code for reply in send_together(relay.port, mails)} == {250}
    wait_until(lambda: come(1 + len(mails)), seconds=120, what="all events")
    most = growth.most()
    assert len(events) == 1 + len(mails)
    assert all(event["data"]["email"]["text"] for event in events)
    assert most <= MOST, f"{most / 1_048_576:.0f} MiB above idle"
