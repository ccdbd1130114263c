"""Scripted answers that HTTP changes while a server of two workers runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from tests.support import process
from tests.support.clients.wire import Wire
from tests.support.inbox.client import InboxClient, with_inbox
from tests.support.net import HOST, answers, wait_until
from tests.support.servers.relay import Relay, flow

HERE = {"type": "whitelist", "ips": [HOST]}
OFF = {
    "Sender": {"ErrorCode": 451, "Probability": 0},
    "Recipient": {"ErrorCode": 451, "Probability": 0},
    "Authentication": {"ErrorCode": 535, "Probability": 0},
}

Make = Callable[..., Relay]


def config(*filters: dict[str, Any]) -> dict[str, Any]:
    return with_inbox(all=flow(HERE, *filters, filename="${id}.eml", addRawHeaders=True)) | {"workers": 2}


def codes(relay: Relay, times: int = 12) -> set[int]:
    found = set()
    for _ in range(times):
        with Wire(relay.port) as wire:
            wire.greet()
            found.add(wire.command("MAIL FROM:<a@c.example>").code)
    return found


def test_chaos_and_rules_reach_all_workers_and_those_that_start_later(new_relay: Make) -> None:
    relay = new_relay(config({"type": "respond"})).start()
    with InboxClient(relay) as inbox:
        assert inbox.get("/api/v1/webui").json()["ChaosEnabled"] is True
        assert inbox.get("/api/v1/chaos").json() == OFF
        assert codes(relay) == {250}
        given = {"Sender": {"ErrorCode": 452, "Probability": 100}}
        assert inbox.put("/api/v1/chaos", json=given).json() == {**OFF, **given}
        assert codes(relay) == {452}
        for pid in process.tree(relay.pid):
            if pid != relay.pid and b"listener.inbox" not in process.command_line(pid):
                os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: relay.log().count("starting it again") >= 2 and answers(relay.port),
            seconds=30,
            what="new workers",
        )
        assert codes(relay) == {452}
        assert inbox.put("/api/v1/chaos", json={}).json() == OFF
        assert codes(relay) == {250}
        rules = {"rules": [{"phase": "mail", "flow": "all", "reply": {"code": 550}}]}
        assert inbox.put("/api/v1/respond", json=rules).json() == rules == inbox.get("/api/v1/respond").json()
        assert codes(relay) == {550}
        wrong = inbox.put("/api/v1/respond", json={"rules": [{"reply": "250 2.0.0 OK"}]})
        assert (wrong.status_code, wrong.text[:20]) == (400, "rules[0].reply.code:")
        assert inbox.put("/api/v1/chaos", json={"Sender": {"ErrorCode": 200}}).status_code == 400
        assert inbox.put("/api/v1/respond", content=b"{}").status_code == 415
        assert codes(relay) == {550}
        inbox.put("/api/v1/respond", json={"rules": None}).raise_for_status()
        assert codes(relay) == {250}


def test_a_server_without_the_filter_has_no_chaos(new_relay: Make) -> None:
    relay = new_relay(config()).start()
    with InboxClient(relay) as inbox:
        assert inbox.get("/api/v1/webui").json()["ChaosEnabled"] is False
        for reply in (inbox.get("/api/v1/chaos"), inbox.put("/api/v1/chaos", json={})):
            assert (reply.status_code, reply.text) == (400, "Chaos is not enabled")
        assert inbox.put("/api/v1/respond", json={"rules": []}).status_code == 400
