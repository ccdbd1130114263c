"""Retry over HTTP, beside a real server: two clicks, one delivery."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.inbox.client import PATIENCE, InboxClient, send, with_inbox
from tests.support.net import HOST, free_port, wait_until
from tests.support.servers.relay import ROOT, Relay, flow
from tests.support.servers.smarthost import Heard, smarthost


class Refusing:
    """A next hop that refuses every recipient until it is repaired."""

    words: str | None = "550 5.1.1 no such mailbox"

    def __call__(self, heard: Heard) -> str | None:
        return self.words if heard.verb == "RCPT" else None


def with_mailer(port: int, workers: int = 1, **inbox: Any) -> dict[str, Any]:
    both = flow(filename="${id}.eml", addRawHeaders=True)
    hop = {"host": HOST, "port": port, "ignoreTLS": True}
    both["outputs"].append({"type": "mailer", "nodemailer": hop})
    return {**with_inbox(inbox, all=both), "workers": workers}


def sent_state(inbox: InboxClient) -> dict[str, Any]:
    """The state of the mailer."""
    found: dict[str, Any] = inbox.get("/api/v1/message/latest/deliveries").json()[1]
    return found


def retry(inbox: InboxClient) -> list[str]:
    reply = inbox.post("/api/v1/message/latest/retry")
    assert reply.status_code == 200, reply.text
    outputs: list[str] = reply.json()["Outputs"]
    return outputs


def wait_for_state(inbox: InboxClient, state: str) -> None:
    wait_until(lambda: sent_state(inbox)["State"] == state, seconds=PATIENCE, what=f"the mailer is {state}")


@pytest.mark.parametrize("workers", [1, 2])
def test_many_clicks_deliver_a_dead_part_once_and_store_no_file_again(
    new_relay: Callable[..., Relay], workers: int
) -> None:
    script = Refusing()
    with smarthost(script) as host:
        relay = new_relay(with_mailer(host.port, workers)).start()
        with InboxClient(relay) as inbox:
            send(relay, "given up")
            inbox.wait_for("given up")
            wait_for_state(inbox, "dead")
            assert sent_state(inbox)["Sentence"].startswith("mailer_1 gave up: ")
            (stored,) = relay.files()
            before = stored.stat()
            script.words = None
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _: retry(inbox), range(8)))
            assert answers.count(["mailer_1"]) >= 1
            wait_for_state(inbox, "delivered")
            assert retry(inbox) == []
            assert len(host.taken) == 1
            assert sent_state(inbox)["Sentence"] == "mailer_1 has the mail."
            after = stored.stat()
            assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
            assert len(relay.files()) == 1


def test_a_deleted_file_is_not_stored_again_by_a_replay_nor_after_a_kill(
    new_relay: Callable[..., Relay],
) -> None:
    script = Refusing()
    with smarthost(script) as host:
        relay = new_relay(with_mailer(host.port)).start()
        with InboxClient(relay) as inbox:
            send(relay, "given up")
            inbox.wait_for("given up")
            wait_for_state(inbox, "dead")
            assert inbox.delete("/api/v1/messages").status_code == 200
            assert relay.files() == []
        relay.kill()
        relay.start()
        script.words = None
        command = [sys.executable, "-m", "listener.cli.main", "deadletter", "replay", "--all"]
        environment = {**relay.environment(), "PYTHONPATH": str(ROOT)}
        subprocess.run([*command, "-c", str(relay.path)], cwd=relay.folder, env=environment, check=True)
        wait_until(lambda: len(host.taken) == 1, seconds=PATIENCE, what="the replayed mail arrives")
        assert relay.files() == []


def test_a_part_that_waits_is_tried_now(new_relay: Callable[..., Relay]) -> None:
    port = free_port()
    relay = new_relay(with_mailer(port)).start()
    with InboxClient(relay) as inbox:
        send(relay, "waits")
        inbox.wait_for("waits")
        wait_for_state(inbox, "waiting")
        wait_until(lambda: sent_state(inbox)["Reason"] != "", seconds=PATIENCE, what="an attempt failed")
        assert "the next attempt is at " in sent_state(inbox)["Sentence"]
        with smarthost(port=port) as host:
            assert retry(inbox) == ["mailer_1"]
            wait_until(lambda: len(host.taken) == 1, seconds=PATIENCE, what="the mail arrives")
            wait_for_state(inbox, "delivered")


def test_a_user_without_the_right_retries_nothing(new_relay: Callable[..., Relay]) -> None:
    users = {"ann": {"password": "plain:ann"}, "bob": {"password": "plain:bob", "rights": ["retry"]}}
    script = Refusing()
    with smarthost(script) as host:
        relay = new_relay(with_mailer(host.port, users=users)).start()
        with InboxClient(relay) as inbox:
            inbox.auth = ("bob", "bob")
            send(relay, "given up")
            inbox.wait_for("given up")
            wait_for_state(inbox, "dead")
            # The cookie of a login counts before a password, so the other user is another client.
            with InboxClient(relay) as other:
                reply = other.post("/api/v1/message/latest/retry", auth=("ann", "ann"))
            assert reply.status_code == 403
            assert '"rights": ["retry"]' in reply.text
            assert sent_state(inbox)["State"] == "dead"
            assert retry(inbox) == ["mailer_1"]
