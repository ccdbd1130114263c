"""Eight hostile mails at once, that an `http-filter` reads: what they take of the machine's memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest

from tests.support import process
from tests.support.clients.crowd import send_together
from tests.support.mails import costly
from tests.support.servers.endpoint import endpoint
from tests.support.servers.relay import Relay, flow

pytestmark = pytest.mark.slow

MOST = 128 * 1_048_576


SETS = {
    "mixed": costly.mixed,
    "entities": partial(costly.alike, costly.entities),
    "emoji": partial(costly.alike, costly.emoji_in_html),
    "smaller": partial(costly.alike, costly.emoji_in_html, 6_000_000),
}


@pytest.mark.parametrize("name", SETS)
def test_hostile_mails_at_once_take_little_memory(name: str, new_relay: Callable[..., Relay]) -> None:
    mails = SETS[name]()
    with endpoint() as asked:
        only = flow({"type": "http-filter", "url": asked.url})
        relay = new_relay({"flows": {"in": only}, "filterTimeout": 300_000}, env={"NO_PROXY": "*"}).start()
        send_together(relay.port, [costly.html(100_000)])
        growth = process.Growth(relay.pid)
        replies = send_together(relay.port, mails)
        most = growth.most()
        assert {str(reply) for reply in replies if reply.code != 250} == set()
        assert len(asked.asked) == len(mails) + 1
        assert all(json.loads(one.body)["data"]["email"]["text"] for one in asked.asked)
    assert most <= MOST, f"{most / 1_048_576:.0f} MiB above idle"
