"""SIGTERM while an output waits for a server: the process ends within `closeTimeout`, and logs the
unknown outcome as in doubt. Through the real listener."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.support.clients.wire import submit
from tests.support.mails.dead_letters import held, wait_for_records
from tests.support.net import HOST, PATIENCE, wait_until
from tests.support.servers.endpoint import Says, endpoint
from tests.support.servers.relay import Relay
from tests.support.servers.smarthost import SILENCE, Heard, Smarthost, smarthost

CLOSE_TIMEOUT: Final = 1.0
MARGIN: Final = 6.0
"""Seconds that the rest of an orderly end may take on a loaded machine; the next server would hold it
up for ten minutes."""

Make = Callable[..., Relay]


def relaying(new_relay: Make, output: dict[str, Any], *, workers: int = 1, **about: Any) -> Relay:
    config = {
        "flows": {"out": {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [output]}},
        "loggers": [{"type": "CONSOLE", "format": "json"}],
        "workers": workers,
        "delivery": {"retry": {"first": 100, "max": 300}, **about.pop("delivery", {})},
    }
    return new_relay(config, closeTimeout=int(CLOSE_TIMEOUT * 1000), **about).start()


def stopped_in_time(relay: Relay) -> None:
    began = time.monotonic()
    assert relay.stop() == 0
    assert time.monotonic() - began < CLOSE_TIMEOUT + MARGIN


def in_doubt(relay: Relay) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in relay.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("in_doubt")]


@pytest.fixture
def silent() -> Iterator[tuple[Smarthost, threading.Event]]:
    """A next hop that accepts the first mail and does not answer; the event says that it has it."""
    dot = threading.Event()

    def script(heard: Heard) -> str | None:
        if heard.verb == "." and not dot.is_set():
            heard.take()
            dot.set()
            return SILENCE
        return None

    with smarthost(script) as host:
        yield host, dot


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("on_doubt", ["resend", "dead-letter"])
def test_a_mail_past_its_dot_is_in_doubt(
    new_relay: Make, silent: tuple[Smarthost, threading.Event], on_doubt: str, workers: int
) -> None:
    host, dot = silent
    hop = {"host": HOST, "port": host.port, "ignoreTLS": True}  # socketTimeout stays ten minutes
    output = {"type": "mailer", "nodemailer": hop}
    relay = relaying(new_relay, output, workers=workers, delivery={"onDoubt": on_doubt})
    assert submit(relay.port, b"Subject: x\r\n\r\nx\r\n", "a@x.example", "b@x.example").code == 250
    assert dot.wait(10)
    stopped_in_time(relay)
    (said,) = in_doubt(relay)
    assert "after it had the mail: it may have taken it" in said["reason"]
    relay.start()
    if on_doubt == "resend":
        wait_until(lambda: held(relay) == 0, seconds=20, what=f"an empty spool:\n{relay.log()}")
        assert host.copies() == {"b@x.example": 2}
    else:
        (record,) = wait_for_records(relay, 1)
        assert "it may have taken it" in record["reason"]
        assert host.copies() == {"b@x.example": 1}
    assert relay.stop() == 0
    assert len(in_doubt(relay)) == 1, "told once"


def test_a_call_that_hangs_holds_no_exit_up(new_relay: Make) -> None:
    """An SDK's call cannot be cut: the process goes without it, and the next start finds its claim."""
    with endpoint() as queue:
        asked, answered = threading.Event(), threading.Event()

        def hangs(_: object) -> Says:
            asked.set()
            return Says(hang=answered)

        queue.answer = hangs
        aws = {
            "AWS_ENDPOINT_URL": queue.url.partition("/ask")[0],
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        topic = {"topic": "https://sqs.us-east-1.amazonaws.com/000000000000/q"}
        relay = relaying(new_relay, {"type": "aws", "pubsub": topic}, env=aws)
        assert submit(relay.port, b"Subject: x\r\n\r\nx\r\n", "a@x.example", "b@x.example").code == 250
        assert asked.wait(20)
        stopped_in_time(relay)
        assert "ending with deliveries under way" in relay.log()
        answered.set()
        relay.start()
        wait_until(lambda: bool(in_doubt(relay)), seconds=20, what=f"the claim:\n{relay.log()}")
        assert relay.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_whose_port_answers_can_be_stopped(new_relay: Make, workers: int) -> None:
    """However early the signal comes: it drains, and ends with 0."""
    relay = new_relay({"workers": workers})
    for _ in range(5):
        relay.spawn()
        with socket.socket() as client:
            wait_until(
                lambda client=client: not relay.alive or client.connect_ex((HOST, relay.port)) == 0,  # type: ignore[misc]
                seconds=PATIENCE,
                what="the port",
                every=0.0005,
            )
            assert relay.alive, relay.log()
            assert relay.stop() == 0, relay.log()
