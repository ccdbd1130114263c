"""The process that runs the outputs, if `delivery.mode` differs from the spool's default."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.clients.wire import submit
from tests.support.net import wait_until
from tests.support.servers.relay import Relay

MAIL = b"Subject: kept for later\r\n\r\nx\r\n"


def test_a_folder_with_events_keeps_mail_for_another_process(new_relay: Callable[..., Relay]) -> None:
    relay = new_relay({"delivery": {"mode": "events"}}).start()
    assert submit(relay.port, MAIL, "a@example.com", "b@example.com").code == 250
    assert relay.stop() == 0
    assert relay.files() == []
    del relay.config["delivery"]
    relay.restart()
    wait_until(lambda: len(relay.files()) == 1, seconds=10, what="the mail")
    assert relay.mails()[0].endswith(MAIL)
    assert relay.stop() == 0
