"""The inbox beside a server: mails that arrive, that go, that must stay; its process; its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support import process
from tests.support.inbox.client import (
    PATIENCE,
    InboxClient,
    address_of,
    inbox_processes,
    send,
    with_inbox,
)
from tests.support.net import HOST, free_port, wait_until
from tests.support.servers.relay import Relay, flow


@pytest.fixture
def relay(new_relay: Callable[..., Relay]) -> Relay:
    return new_relay(with_inbox()).start()


@pytest.fixture
def inbox(relay: Relay) -> Iterator[InboxClient]:
    with InboxClient(relay) as client:
        yield client


def watch(relay: Relay) -> ClientConnection:
    return connect(f"{address_of(relay).replace('http:', 'ws:')}/api/events")


def event(socket: ClientConnection, kind: str) -> Any:
    """The data of the next event of a kind."""
    while True:
        found = json.loads(socket.recv(timeout=PATIENCE))
        if found["Type"] == kind:
            return found["Data"]


def test_a_mail_that_arrives_is_shown_told_and_found(relay: Relay, inbox: InboxClient) -> None:
    inbox.wait_for()
    with watch(relay) as events:
        assert event(events, "stats") == {"Total": 0, "Unread": 0}
        send(relay, "Grüße", "hidden@h.example")
        told = event(events, "new")
        assert told["Subject"] == "Grüße"
        assert told["Bcc"] == [{"Name": "", "Address": "hidden@h.example"}]
        assert event(events, "stats") == {"Total": 1, "Unread": 1}
        (one,) = inbox.wait_for("Grüße")
        assert one == told
        found = inbox.get(f"/api/v1/message/{one['ID']}").json()
        assert found["ReturnPath"] == "env@h.example"
        assert event(events, "update") == {"ID": one["ID"], "Read": True}
        chosen = {"IDs": [one["ID"]]}
        assert inbox.request("DELETE", "/api/v1/messages", json=chosen).status_code == 200
        assert event(events, "delete") == {"ID": one["ID"]}
        send(relay, "Two")
        inbox.wait_for("Two")
        assert inbox.delete("/api/v1/messages").status_code == 200
        assert event(events, "truncate") is None
    assert relay.files() == []


def test_server_sent_events_tell_the_same(relay: Relay, inbox: InboxClient) -> None:
    inbox.wait_for()
    with inbox.stream("GET", "/api/v1/stream") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = reply.iter_lines()
        next(lines)
        send(relay, "One")
        kind, data = (
            next(line for line in lines if line.startswith(start)) for start in ("event: ", "data: ")
        )
        assert kind == "event: new"
        assert json.loads(data.removeprefix("data: "))["Subject"] == "One"


def test_a_test_waits_for_its_mail_without_polling(relay: Relay, inbox: InboxClient) -> None:
    inbox.wait_for()
    send(relay, "Your code 4711")
    found = inbox.get("/api/v1/wait", params={"query": "to:bob code", "timeout": "20"}).json()
    assert inbox.get(f"/api/v1/message/{found['ID']}/codes").json() == ["4711"]


def test_files_that_come_and_go_by_hand_do_so_in_the_inbox(relay: Relay, inbox: InboxClient) -> None:
    send(relay, "One")
    inbox.wait_for("One")
    (path,) = relay.files()
    path.rename(path.with_name("renamed.eml"))
    inbox.wait_for("One")
    (relay.received / "renamed.eml").unlink()
    inbox.wait_for()
    (relay.received / "own.eml").write_bytes(b"Subject: by hand\r\n\r\n")
    inbox.wait_for("by hand")


def test_a_mail_whose_delivery_goes_on_keeps_its_file(new_relay: Callable[..., Relay]) -> None:
    both = flow(filename="${id}.eml", addRawHeaders=True)
    both["outputs"].append({"type": "mailer", "nodemailer": {"host": HOST, "port": free_port()}})
    relay = new_relay(with_inbox(all=both)).start()
    with InboxClient(relay) as inbox:
        send(relay, "waits")
        inbox.wait_for("waits")
        reply = inbox.delete("/api/v1/messages")
        assert reply.status_code == 409
        assert "is still being delivered" in reply.text
        assert len(relay.files()) == 1
        assert inbox.subjects() == ["waits"]
        stored, sent = inbox.get("/api/v1/message/latest/deliveries").json()
        assert (stored["Output"], stored["State"], stored["Reason"]) == ("file_0", "delivered", "")
        assert (sent["Output"], sent["State"]) == ("mailer_1", "waiting")
        assert "refused" in sent["Reason"]
        assert sent["Next"].endswith("Z")


def test_a_mail_can_be_deleted_as_soon_as_it_is_seen(relay: Relay, inbox: InboxClient) -> None:
    for number in range(10):
        send(relay, f"{number}")
        inbox.wait_for(f"{number}")
        assert inbox.delete("/api/v1/messages").status_code == 200
        assert relay.files() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_smtp_goes_on_while_the_inbox_dies_and_comes_back(
    new_relay: Callable[..., Relay], workers: int
) -> None:
    relay = new_relay({**with_inbox(), "workers": workers}).start()
    with InboxClient(relay) as inbox:
        dies_and_comes_back(relay, inbox)


def dies_and_comes_back(relay: Relay, inbox: InboxClient) -> None:
    send(relay, "One")
    inbox.wait_for("One")
    inbox.put("/api/v1/messages", json={"Read": True})
    for _ in range(2):
        (child,) = inbox_processes(relay)
        os.kill(child, signal.SIGKILL)
        wait_until(
            lambda child=child: inbox_processes(relay) not in ([], [child]),
            seconds=PATIENCE,
            what="another process",
        )
    send(relay, "Two")
    one = next(each for each in inbox.wait_for("One", "Two") if each["Subject"] == "One")
    assert one["Read"]
    assert relay.alive


def test_reindex_makes_the_index_again_beside_a_server(relay: Relay, inbox: InboxClient) -> None:
    send(relay, "One")
    (one,) = inbox.wait_for("One")
    inbox.put("/api/v1/tags", json={"IDs": [one["ID"]], "Tags": ["kept"]})
    index = relay.spool / "inbox" / "index.db"
    before = index.stat().st_ino
    command = [sys.executable, "-m", "listener.cli.main", "mails", "reindex", "-c", str(relay.path)]
    done = subprocess.run(
        command, cwd=relay.folder, capture_output=True, text=True, check=False, env=relay_env()
    )
    assert (done.returncode, done.stdout) == (0, "the index is made again\n"), done.stderr
    wait_until(
        lambda: index.exists() and index.stat().st_ino != before, seconds=PATIENCE, what="the new index"
    )
    (again,) = inbox.wait_for("One")
    assert (again["ID"], again["Tags"]) == (one["ID"], ["kept"])


def relay_env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}


@pytest.mark.parametrize("workers", [1, 2])
def test_all_processes_end_with_the_server(new_relay: Callable[..., Relay], workers: int) -> None:
    relay = new_relay({**with_inbox(), "workers": workers}).start()
    with InboxClient(relay) as inbox:
        inbox.wait_for()
    with watch(relay) as events:
        event(events, "stats")
        family = inbox_processes(relay)
        assert len(family) == 1
        began = time.monotonic()
        assert relay.stop() == 0
        assert time.monotonic() - began < 10
    wait_until(
        lambda: not any(process.command_line(pid) for pid in family), seconds=PATIENCE, what="all to be gone"
    )


def test_a_server_that_is_killed_leaves_no_inbox_behind(relay: Relay, inbox: InboxClient) -> None:
    inbox.wait_for()
    family = inbox_processes(relay)
    os.kill(relay.pid, signal.SIGKILL)
    assert relay.process is not None
    relay.process.wait()
    wait_until(
        lambda: not any(process.command_line(pid) for pid in family), seconds=PATIENCE, what="all to be gone"
    )


def test_a_taken_port_is_a_mistake_and_the_usual_one_gives_way(new_relay: Callable[..., Relay]) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        relay = new_relay(with_inbox({"port": taken.getsockname()[1]}))
        with pytest.raises(RuntimeError, match="the server ended at start with 2"):
            relay.start()
        assert "Traceback" not in relay.log()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bind": "0.0.0.0"}, "nobody has to log in"),
        ({"users": {"ann": {"password": "plain:x", "inboxes": ["other"]}}}, "there is no inbox 'other'"),
    ],
)
def test_an_inbox_that_others_could_look_into_by_mistake_is_refused(
    new_relay: Callable[..., Relay], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        new_relay(with_inbox(options)).start()


def test_no_module_of_the_working_folder_is_run(new_relay: Callable[..., Relay]) -> None:
    relay = new_relay(with_inbox({"port": free_port()}))
    for name in ("uvicorn", "json", "sitecustomize_x"):
        (relay.folder / f"{name}.py").write_text("raise SystemExit('mine')\n")
    (relay.folder / "listener").mkdir()
    (relay.folder / "listener" / "__init__.py").write_text("raise SystemExit('mine')\n")
    environ = {**relay_env(), "PYTHONSAFEPATH": "1"}
    configuration = relay.command()[-1]
    started = subprocess.Popen(
        [sys.executable, "-m", "listener.cli.main", "serve", configuration],
        cwd=relay.folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with InboxClient(relay) as inbox:
            inbox.wait_for()
    finally:
        started.terminate()
        _, errors = started.communicate(timeout=PATIENCE)
    assert "mine" not in errors
