"""The process: its output, its end, its cost."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import process
from tests.support.clients.wire import Wire, submit
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

MAIL = b"Subject: x\r\n\r\nx\r\n"


def test_it_prints_where_it_listens(new_relay: Make) -> None:
    relay = new_relay().start()
    wait_until(lambda: f"listening on {HOST}:{relay.port}" in relay.log(), seconds=5, what="the line")


def test_variables_of_a_kubernetes_service_cost_one_line(new_relay: Make) -> None:
    """A service named smtp-relay-health gives SMTP_RELAY_HEALTH_PORT."""
    environ = {"SMTP_RELAY_HEALTH_PORT": "tcp://10.96.0.7:8080", "SMTP_RELAY_PORT": "tcp://10.96.0.9:25"}
    relay = new_relay(env=environ).start()
    assert submit(relay.port, MAIL).code == 250
    assert len([line for line in relay.log().splitlines() if "10.96.0." in line]) == 1


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("path", ["in-the-way", "in-the-way/below", "/proc/mails", "x" * 300])
def test_a_folder_that_takes_no_file_ends_the_start(new_relay: Make, path: str, workers: int) -> None:
    outputs = [{"type": "log"}, {"type": "file", "path": path}]
    mine = {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": outputs}
    relay = new_relay({"flows": {"mine": mine}, "workers": workers})
    (relay.folder / "in-the-way").write_text("a file")
    process = relay.spawn()
    assert process.wait(30) == 2
    (line,) = relay.log().splitlines()
    assert line.startswith("smtp-relay: ")
    assert "flows.mine.outputs[1].path" in line
    assert path in line
    assert "name a folder" in line


def test_a_folder_that_is_lost_later_defers(new_relay: Make) -> None:
    relay = new_relay().start()
    assert submit(relay.port, MAIL).code == 250
    for file in relay.received.iterdir():
        file.unlink()
    relay.received.rmdir()
    relay.received.write_text("a file")
    assert submit(relay.port, MAIL).code == 250
    relay.received.unlink()
    relay.restart()
    wait_until(lambda: len(relay.files()) == 1, seconds=60, what="the mail")


def test_a_port_in_use(new_relay: Make) -> None:
    relay = new_relay()
    with socket.socket() as taken:
        taken.bind((HOST, relay.port))
        taken.listen()
        started = relay.spawn()
        assert started.wait(20) == 2
    (line,) = relay.log().strip().splitlines()
    assert str(relay.port) in line
    assert "in use" in line


LATE = """\
import os, socket, sys
from listener.server import run
other = socket.socket()
other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
other.bind(("127.0.0.1", int(sys.argv.pop())))
make_room = run.make_room
run.make_room = lambda config: (other.listen(), make_room(config))
from listener.cli.main import main
sys.exit(main())
"""
"""The server, whose port another one begins to use between its bind and its listen."""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_while_the_server_starts(
    new_relay: Make, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    relay = new_relay({"workers": workers})
    program = [sys.executable, "-c", LATE, *relay.command()[-2:], str(relay.port)]
    monkeypatch.setattr(relay, "command", lambda: program)
    assert relay.spawn().wait(30) == 2, relay.log()
    assert "listening on" not in relay.log()
    assert "Traceback" not in relay.log()
    assert f"port {relay.port} on {HOST}: is in use by " in relay.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_when_idle(new_relay: Make, workers: int) -> None:
    relay = new_relay({"workers": workers}).start()
    with Wire(relay.port) as wire:
        wire.greet()
        began = time.monotonic()
        assert relay.stop() == 0
        assert time.monotonic() - began < 5
        assert wire.reply().code == 421
        assert wire.rest() == b""
    assert "Traceback" not in relay.log()


def test_a_mail_in_the_making_is_finished(new_relay: Make) -> None:
    relay = new_relay().start()
    with Wire(relay.port) as wire:
        wire.begin()
        wire.send(b"Subject: x\r\n\r\n")
        assert relay.process is not None
        relay.process.terminate()
        time.sleep(0.3)
        wire.send(b"y\r\n.\r\n")
        assert wire.reply().code == 250
        assert wire.rest()[:4] in (b"", b"421 ")
    assert relay.process.wait(10) == 0
    assert len(relay.mails()) == 1


def test_workers_share_the_port(new_relay: Make) -> None:
    relay = new_relay({"workers": 2}).start()
    for _ in range(60):
        assert submit(relay.port, b"a: b\r\n\r\nx\r\n").code == 250
    assert len(relay.files()) == 60
    busy = [pid for pid in process.tree(relay.pid)[1:] if process.resident(pid) > 20_000_000]
    assert len(busy) >= 2
    assert relay.stop() == 0
    assert process.tree(relay.pid) == [relay.pid]


@pytest.mark.slow
def test_memory_of_idle_connections(new_relay: Make) -> None:
    """At most 60 MB with a thousand of them, and 12 KB for each further one."""
    relay = new_relay(maxClients=3_000).start()
    wires: list[Wire] = []

    def hold(count: int) -> int:
        while len(wires) < count:
            wires.append(Wire(relay.port))
            wires[-1].greet()
        return relay.resident()

    try:
        hold(100)
        first = hold(1_000)
        assert first < 60_000_000
        second = hold(2_000)
        assert (second - first) / 1_000 < 12_000, (first, second)
        assert submit(relay.port, b"a: b\r\n\r\nx\r\n").code == 250
    finally:
        for wire in wires:
            wire.socket.close()
    wait_until(lambda: relay.open_files() < 100, seconds=15, what="descriptors closed")


def test_the_log_tells_of_each_mail(new_relay: Make) -> None:
    relay = new_relay().start()
    reply = submit(relay.port, b"Subject: hello\r\n\r\nx\r\n")
    mail_id = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", reply.text)
    assert mail_id is not None
    wait_until(lambda: mail_id[0] in relay.log(), seconds=5, what="the id in the log")


def test_control_characters_never_reach_the_log_raw(new_relay: Make) -> None:
    relay = new_relay({"logAddresses": True}, allowInsecureAuth=True).start()
    with Wire(relay.port) as wire:
        wire.reply()
        for line in (b"EHLO a\x1b[31mb", b"MAIL FROM:<a\x1b]0;x\x07@b.example>", b"\x1b[2J", b"AUTH \x1b[2J"):
            wire.command(line)
        wire.command("EHLO client.example")
        wire.envelope()
        wire.send(b"Subject: \x1b[31mred\r\n\r\nx\r\n.\r\n")
        assert wire.reply().code == 250
    assert relay.stop() == 0
    assert "\x1b" not in relay.log()
    assert "\x07" not in relay.log()


@pytest.mark.parametrize("what", ["prometheus", "secret"])
def test_workers_that_cannot_start_leave_nobody_behind(new_relay: Make, what: str) -> None:
    """A process that starts again at once must find its ports and its spool free."""
    with socket.create_server((HOST, 0)) as taken:
        wrong: dict[str, Any] = {"prometheus": {"portNumber": taken.getsockname()[1]}}
        if what == "secret":
            users = {"type": "static-auth", "username": "u", "password": "env:NOT_SET_ANYWHERE"}
            wrong = {"flows": {"in": flow(users)}}
        relay = new_relay({"workers": 3, **wrong})
        started = relay.spawn()
        assert started.wait(30) == 2
        with pytest.raises(ProcessLookupError):
            os.killpg(started.pid, 0)
    assert "could not start" in relay.log()
    assert "Traceback" not in relay.log()
