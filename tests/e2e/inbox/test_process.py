"""The process of the inbox: its death at any moment, what it holds open, and its end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import smtplib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.support import process
from tests.support.inbox.client import (
    PATIENCE,
    InboxClient,
    address_of,
    inbox_processes,
    send,
    with_inbox,
)
from tests.support.inbox.mails import mail
from tests.support.net import HOST, free_port, wait_until
from tests.support.servers.relay import Relay

ROUNDS = 12
MAILS = 240


def kill_inbox(relay: Relay) -> None:
    for pid in inbox_processes(relay):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_an_inbox_killed_at_any_moment_heals(new_relay: Callable[..., Relay]) -> None:
    relay = new_relay(with_inbox()).start()
    chosen = random.Random(18)
    accepted: list[str] = []

    def send_all() -> None:
        with smtplib.SMTP(HOST, relay.port) as client:
            for number in range(MAILS):
                client.send_message(mail(f"mail {number}"), "env@h.example", ["bob@h.example"])
                accepted.append(f"mail {number}")
                time.sleep(0.02)  # a steady client: mails come during all rounds

    with InboxClient(relay) as inbox:
        send(relay, "marked")
        (one,) = inbox.wait_for("marked")
        inbox.put("/api/v1/messages", json={"Read": True})
        inbox.put("/api/v1/tags", json={"IDs": [one["ID"]], "Tags": ["kept"]})
        sender = threading.Thread(target=send_all)
        sender.start()
        pid = relay.pid
        for number in range(ROUNDS):
            time.sleep(chosen.uniform(0, 0.7))  # any moment: what it does then is the case
            kill_inbox(relay)
            if number % 3 == 0:  # also while it is asked to change something
                with contextlib.suppress(httpx.HTTPError):
                    inbox.put("/api/v1/tags", json={"IDs": [one["ID"]], "Tags": ["kept"]}, timeout=0.5)
        sender.join(PATIENCE)
        assert len(accepted) == MAILS
        assert (relay.alive, relay.pid) == (True, pid)
        wait_until(lambda: len(relay.files()) == MAILS + 1, seconds=PATIENCE, what="all files")

        def is_complete() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return bool(inbox.page()["total"] == MAILS + 1)
            return False

        wait_until(is_complete, seconds=60, what="the whole index")
        page = inbox.get("/api/v1/messages", params={"limit": 0}).raise_for_status().json()["messages"]
        assert sorted(each["Subject"] for each in page) == sorted(["marked", *accepted])
        (again,) = (each for each in page if each["Subject"] == "marked")
        assert (again["ID"], again["Read"], again["Tags"]) == (one["ID"], True, ["kept"])
        found = inbox.get("/api/v1/search", params={"query": "subject:mail", "limit": 1}).json()
        assert found["messages_count"] == MAILS


@pytest.mark.parametrize("name", ["index.db", "state.db"])
def test_a_torn_database_is_made_again(new_relay: Callable[..., Relay], name: str) -> None:
    relay = new_relay(with_inbox({"port": free_port()})).start()
    with InboxClient(relay) as inbox:
        send(relay, "One")
        inbox.wait_for("One")
        relay.stop()
        torn = relay.spool / "inbox" / name
        torn.write_bytes(b"torn" * 5_000)
        for suffix in ("-wal", "-shm"):
            torn.with_name(name + suffix).unlink(missing_ok=True)
        relay.start()
    with InboxClient(relay) as inbox:
        inbox.wait_for("One")
    if name == "state.db":
        assert torn.with_name("state.db.damaged").read_bytes().startswith(b"torn")
        assert "state.db is damaged" in relay.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_ends_within_a_second_of_ctrl_c(new_relay: Callable[..., Relay], number: signal.Signals) -> None:
    relay = new_relay(with_inbox()).start()
    address = address_of(relay)
    with InboxClient(relay) as inbox:
        inbox.wait_for()
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(connect(f"{address.replace('http:', 'ws:')}/api/events"))
        socket.recv(timeout=PATIENCE)
        client = stack.enter_context(httpx.Client(base_url=address, timeout=PATIENCE))
        stream = stack.enter_context(client.stream("GET", "/api/v1/stream"))
        next(stream.iter_lines())
        answers: list[int] = []

        def wait() -> None:
            with contextlib.suppress(httpx.TransportError):
                reply = httpx.get(f"{address}/api/v1/wait?query=never&timeout=60", timeout=PATIENCE)
                answers.append(reply.status_code)

        waiting = threading.Thread(target=wait)
        waiting.start()
        (child,) = inbox_processes(relay)
        before = process.open_files(child)
        assert before > 0
        time.sleep(0.3)  # the wait is there; that it is not would only make the test easier
        began = time.monotonic()
        assert relay.process is not None
        os.killpg(relay.pid, number)  # a terminal tells all of its processes
        relay.process.wait(PATIENCE)
        taken = time.monotonic() - began
        waiting.join(PATIENCE)
    assert not process.command_line(child)
    assert answers in ([503], [])
    assert taken < 1.5, taken  # a second, and what a busy machine adds


def test_the_inbox_holds_no_port_and_no_lock_of_the_server(new_relay: Callable[..., Relay]) -> None:
    relay = new_relay(with_inbox()).start()
    with InboxClient(relay) as inbox:
        send(relay, "One")
        inbox.wait_for("One")
        (child,) = inbox_processes(relay)
        assert process.is_listening(relay.pid, relay.port)
        assert not process.is_listening(child, relay.port)
        held = [str(each.readlink()) for each in Path(f"/proc/{child}/fd").iterdir() if each.is_symlink()]
        inside = [path for path in held if path.startswith(f"{relay.spool}/")]
        assert inside
        assert [path for path in inside if not path.startswith(f"{relay.spool}/inbox/")] == []
        os.kill(child, signal.SIGSTOP)
        try:
            send(relay, "Two")  # the server does not need it
            wait_until(lambda: len(relay.files()) == 2, seconds=PATIENCE, what="both files")
        finally:
            os.kill(child, signal.SIGCONT)
