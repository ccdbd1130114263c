"""SIGHUP: a new configuration is taken up whole, a bad one changes nothing (SPEC section 2)."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.net import free_port, wait_until
from tests.support.servers import Relay
from tests.support.wire import Wire, submit

Make = Callable[..., Relay]
MAIL = b"Subject: x\r\n\r\ny\r\n"


def rewrite(relay: Relay, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads(relay.path.read_text())
    change(config)
    relay.path.write_text(json.dumps(config))
    os.kill(relay.pid, signal.SIGHUP)


def only_to(recipient: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for flow in config["flows"].values():
            flow["filters"] = [{"type": "whitelist", "to": [recipient]}]

    return change


@pytest.mark.parametrize("workers", [1, 2])
def test_new_rules_hold_for_new_connections(new_relay: Make, workers: int) -> None:
    relay = new_relay({"workers": workers}).start()
    assert submit(relay.port, MAIL, "a@client.example", "one@x.example").code == 250
    with Wire(relay.port) as old:
        old.greet()
        rewrite(relay, only_to("two@x.example"))
        wait_until(
            lambda: relay.log().count("configuration read again") == workers, seconds=10, what="reload"
        )
        with pytest.raises(AssertionError, match="550"):
            submit(relay.port, MAIL, "a@client.example", "one@x.example")
        assert submit(relay.port, MAIL, "a@client.example", "two@x.example").code == 250
        # A connection keeps the rules it began with.
        old.envelope("a@client.example", "one@x.example")


@pytest.mark.parametrize(
    "text",
    ["{", '{"flows": {"a": {"filter": []}}}', '{"flows": {}, "spool": "file://./elsewhere"}'],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_one_changes_nothing(new_relay: Make, text: str, workers: int) -> None:
    relay = new_relay({"workers": workers}).start()
    relay.path.write_text(text)
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: "was not taken up" in relay.log(), seconds=10, what="the refusal")
    assert submit(relay.port, MAIL).code == 250
    assert "Traceback" not in relay.log()


def test_ports_come_and_go(new_relay: Make) -> None:
    relay = new_relay().start()
    fresh = free_port()

    def move(config: dict[str, Any]) -> None:
        config["port"] = fresh

    rewrite(relay, move)
    wait_until(lambda: "configuration read again" in relay.log(), seconds=10, what="reload")
    assert submit(fresh, MAIL).code == 250
    with pytest.raises(ConnectionRefusedError):
        Wire(relay.port)


def test_outputs_change_for_mails_to_come(new_relay: Make) -> None:
    relay = new_relay().start()
    assert submit(relay.port, MAIL).code == 250

    def elsewhere(config: dict[str, Any]) -> None:
        for flow in config["flows"].values():
            flow["outputs"] = [{"type": "file", "path": "./second"}]

    rewrite(relay, elsewhere)
    wait_until(lambda: "configuration read again" in relay.log(), seconds=10, what="reload")
    assert submit(relay.port, MAIL).code == 250
    assert len(list((relay.folder / "second").glob("*.eml"))) == 1
    assert len(relay.files()) == 1
