"""The log lines for alarms on the certificate, without a scrape of the metrics."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.net import wait_until
from tests.support.servers.relay import Relay


def test_the_days_left_are_logged_at_start(new_relay: Callable[..., Relay]) -> None:
    relay = new_relay({"loggers": [{"type": "CONSOLE", "format": "json"}]}, secure=True).start()

    def told() -> list[float]:
        lines = [json.loads(line) for line in relay.log().splitlines() if line.startswith("{")]
        return [line["days"] for line in lines if line["message"] == "certificate"]

    wait_until(lambda: bool(told()), seconds=10, what="the record")
    assert told()[0] > 1
