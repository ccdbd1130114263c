"""Refused commands and logins are counted and told; retries, dead records and what waits are too."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.clients.wire import Wire, submit
from tests.support.mails.dead_letters import deadletter, wait_for_records
from tests.support.net import HOST, free_port, wait_until
from tests.support.servers.relay import Relay, flow
from tests.support.servers.smarthost import Heard, refusing, smarthost

Make = Callable[..., Relay]

MAIL = b"From: ann@client.example\r\nSubject: x\r\n\r\nx\r\n"
JSON = {"type": "CONSOLE", "format": "json"}
USERS = {"type": "static-auth", "username": "alice", "password": "plain:right"}


def scraped(relay: Relay, name: str) -> list[tuple[dict[str, str], float]]:
    """The samples of one metric."""
    answer = httpx.get(f"http://{HOST}:{relay.config['prometheus']['portNumber']}/metrics", timeout=30)
    families = text_string_to_metric_families(answer.text)
    return [(each.labels, each.value) for one in families for each in one.samples if each.name == name]


def gauge(relay: Relay, name: str) -> float:
    ((_, value),) = scraped(relay, name)
    return value


def told(relay: Relay, message: str) -> list[dict[str, Any]]:
    """The JSON lines with this message."""
    lines = [json.loads(line) for line in relay.log().splitlines()]
    return [line for line in lines if line["message"] == message]


def plain(user: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


@pytest.mark.parametrize("workers", [1, 2])
def test_refused_commands_and_logins_are_counted_and_told(new_relay: Make, workers: int) -> None:
    relay = new_relay(
        {
            "flows": {"in": flow(USERS)},
            "workers": workers,
            "prometheus": {"portNumber": free_port()},
            "loggers": [JSON],
        },
        hideSTARTTLS=True,
        authOptional=False,
    ).start()
    with Wire(relay.port) as wire:
        wire.greet()
        said = [
            wire.command(line).code
            for line in (
                "MAIL FROM:<ann@client.example>",
                "FOO bar",
                "EHLO",
                plain("bob", "wrong"),
                "AUTH LOGIN",
                base64.b64encode(b"carl").decode(),
                "no base64",
                "AUTH CRAM-MD5",
                plain("alice", "right"),
                "MAIL no-path",
            )
        ]
        assert said == [530, 500, 501, 535, 334, 334, 501, 504, 235, 501]
    # The names of strangers are no labels.
    counted = {
        (labels["code"], labels["mechanism"]): value
        for labels, value in scraped(relay, "smtp_relay_command_errors_total")
        if value
    }
    assert counted == {
        ("530", ""): 1,
        ("500", ""): 1,
        ("501", ""): 2,
        ("535", "PLAIN"): 1,
        ("501", "LOGIN"): 1,
        ("504", ""): 1,
    }
    assert relay.stop() == 0
    (asked,) = told(relay, "login required")
    assert asked["reply"] == "530 5.7.0 Authentication required"
    (failed,) = told(relay, "authentication failed")
    assert (failed["level"], failed["user"], failed["mechanism"]) == ("WARN", "bob", "PLAIN")
    broken, unknown = told(relay, "login refused")
    assert (broken["user"], broken["mechanism"], broken["reply"][:3]) == ("carl", "LOGIN", "501")
    assert unknown["reply"].startswith("504")
    refused = told(relay, "command refused")
    assert [line["reply"][:3] for line in refused] == ["500", "501", "501"]
    assert "user" not in refused[0]
    assert refused[2]["user"] == "alice"


def test_a_stranger_fills_no_disk_with_refused_commands(new_relay: Make) -> None:
    relay = new_relay({"loggers": [JSON]}, maxRefusalLines=5).start()
    for _ in range(20):
        with Wire(relay.port) as wire:
            for _ in range(8):
                wire.command("FOO")
    assert relay.stop() == 0
    assert len(told(relay, "command refused")) == 5
    (left_out,) = told(relay, "more lines of one kind were left out")
    assert (left_out["kind"], left_out["times"]) == ("command refused", 155)


def test_a_retry_says_attempt_and_next_time_and_giving_up_is_an_error(new_relay: Make) -> None:
    left = [2]

    def script(heard: Heard) -> str | None:
        if heard.verb != "RCPT":
            return None
        left[0] -= 1
        return "451 4.3.0 later" if left[0] >= 0 else "550 5.1.1 never"

    with smarthost(script) as host:
        output = {"type": "mailer", "nodemailer": {"host": HOST, "port": host.port}}
        relay = new_relay(
            {
                "flows": {"in": {**flow(), "outputs": [output]}},
                "delivery": {"retry": {"first": 200, "max": 400}},
                "loggers": [JSON],
            }
        ).start()
        assert submit(relay.port, MAIL).code == 250
        wait_for_records(relay, 1)
        assert relay.stop() == 0
    tried = told(relay, "output failed, will be tried again")
    assert [line["attempt"] for line in tried] == [1, 2]
    for line in tried:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["next"])
        now = datetime.fromisoformat(line["time"])
        assert -1 <= (datetime.fromisoformat(line["next"]).astimezone(UTC) - now).total_seconds() <= 1
    (given_up,) = told(relay, "output given up")
    assert given_up["level"] == "ERROR"
    assert "never" in given_up["reason"]


class TestGauges:
    """Dead records and unfinished mails."""

    @pytest.fixture
    def two_dead(self, new_relay: Make) -> Any:
        with smarthost(refusing(no="550 5.1.1 nobody")) as host:
            output = {"type": "mailer", "nodemailer": {"host": HOST, "port": host.port}}
            relay = new_relay(
                {
                    "flows": {"in": {**flow(), "outputs": [output]}},
                    "prometheus": {"portNumber": free_port()},
                    "delivery": {"retry": {"first": 60_000, "max": 60_000}},
                }
            ).start()
            for _ in range(2):
                assert submit(relay.port, MAIL, "ann@client.example", "no@x.example").code == 250
            wait_for_records(relay, 2)
            yield host, relay

    @staticmethod
    def shows(relay: Relay, *, dead: int, unfinished: int) -> None:
        def current() -> bool:
            names = "smtp_relay_dead_records", "smtp_relay_unfinished_mails"
            return [gauge(relay, name) for name in names] == [dead, unfinished]

        wait_until(current, seconds=10, what=f"{dead} dead, {unfinished} unfinished")

    def test_they_follow_each_change_by_whatever_process(self, two_dead: Any) -> None:
        host, relay = two_dead
        self.shows(relay, dead=2, unfinished=0)
        deadletter(relay, "drop", relay_ids(relay)[0])
        self.shows(relay, dead=1, unfinished=0)
        host.script = lambda heard: "451 4.3.0 later" if heard.verb == "RCPT" else None
        deadletter(relay, "replay", "--now", relay_ids(relay)[0])
        self.shows(relay, dead=0, unfinished=1)
        assert submit(relay.port, MAIL, "ann@client.example", "other@x.example").code == 250
        self.shows(relay, dead=0, unfinished=2)

    def test_they_are_right_after_a_start(self, two_dead: Any) -> None:
        _, relay = two_dead
        relay.restart()
        self.shows(relay, dead=2, unfinished=0)


def relay_ids(relay: Relay) -> list[str]:
    return [record["id"] for record in wait_for_records(relay, 1)]
