"""SIGHUP: a good configuration takes effect as a whole, a bad one changes nothing."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients.wire import Wire, submit
from tests.support.net import free_port, wait_until
from tests.support.process import is_listening, tree
from tests.support.servers.relay import Relay

Make = Callable[..., Relay]
MAIL = b"Subject: x\r\n\r\ny\r\n"

HASH: Final = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
"""The line that htpasswd -s writes for `secret`."""


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
def test_new_rules_hold_for_every_mail_that_begins_after_them(new_relay: Make, workers: int) -> None:
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
        assert old.command("MAIL FROM:<a@client.example>").code == 421, "its rules are the old ones"


PASSWORDS: Final = {"type": "static-auth", "users": {"bob": "file://bob"}}
USERS: Final = {"type": "static-auth", "htpasswd": "./users"}


def read_again(relay: Relay, times: int = 1) -> None:
    before = relay.log().count("configuration read again")
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(
        lambda: relay.log().count("configuration read again") == before + times, seconds=20, what="reload"
    )


def deliver(wire: Wire) -> Any:
    wire.send(MAIL + b".\r\n")
    return wire.reply()


def signed_in(relay: Relay, user: str, password: str) -> Wire:
    wire = Wire(relay.port)
    wire.greet()
    token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    assert wire.command(f"AUTH PLAIN {token}").code == 235
    return wire


@pytest.mark.parametrize(
    ("filter_", "revoke"),
    [
        ({**USERS}, lambda folder: (folder / "users").write_text(f"ann:{HASH}\n")),
        ({**PASSWORDS}, lambda folder: (folder / "bob").write_text("plain:another")),
    ],
    ids=["a line of the htpasswd file", "a secret in a file"],
)
def test_a_revoked_user_sends_no_further_mail(
    new_relay: Make, filter_: dict[str, Any], revoke: Callable[[Path], object]
) -> None:
    """Although the configuration is the same to the letter."""
    relay = new_relay({"options": {"allowInsecureAuth": True}})
    (relay.folder / "users").write_text(f"ann:{HASH}\nbob:{HASH}\n")
    (relay.folder / "bob").write_text("plain:secret")
    for flow in relay.config["flows"].values():
        flow["filters"] = [filter_]
    relay.start()
    with signed_in(relay, "bob", "secret") as bob:
        bob.envelope("bob@client.example", "one@x.example")
        revoke(relay.folder)
        read_again(relay)
        assert deliver(bob).code == 250, "the mail in hand comes in"
        assert bob.command("MAIL FROM:<bob@client.example>").code == 421
        assert bob.rest() == b""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_revoked_user_logs_in_on_no_connection_that_was_open_before(new_relay: Make, workers: int) -> None:
    relay = new_relay({"options": {"allowInsecureAuth": True}, "workers": workers})
    (relay.folder / "users").write_text(f"ann:{HASH}\nbob:{HASH}\n")
    for flow in relay.config["flows"].values():
        flow["filters"] = [{**USERS}]
    relay.start()
    login = "AUTH PLAIN " + base64.b64encode(b"\0bob\0secret").decode()
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(relay.port)) for _ in range(6)]
        for wire in wires:
            wire.greet()
        (relay.folder / "users").write_text(f"ann:{HASH}\n")
        read_again(relay, workers)
        assert {wire.command(login).code for wire in wires} == {421}


def test_a_connection_of_an_old_configuration_ends_within_the_close_timeout(new_relay: Make) -> None:
    relay = new_relay({"options": {"closeTimeout": 3000, "socketTimeout": 60_000}}).start()
    with Wire(relay.port) as idle, Wire(relay.port) as busy, Wire(relay.port) as slow:
        idle.greet()
        busy.greet()
        slow.begin()
        rewrite(relay, only_to("two@x.example"))
        wait_until(lambda: "configuration read again" in relay.log(), seconds=20, what="reload")
        began = time.monotonic()
        # A client that sends no command, one that keeps talking, and one whose mail never ends.
        assert idle.reply().code == 421
        while (reply := busy.command("NOOP")).code == 250:
            time.sleep(0.2)
        assert reply.code == 421
        assert slow.reply().code == 421
        assert time.monotonic() - began < 20
    assert "Traceback" not in relay.log()


def test_an_unchanged_configuration_ends_no_connection(new_relay: Make) -> None:
    relay = new_relay({"options": {"closeTimeout": 1000}}).start()
    with Wire(relay.port) as old:
        old.greet()
        read_again(relay)
        time.sleep(4)
        old.envelope("a@client.example", "one@x.example")
        assert deliver(old).code == 250
        # A change ends the connections of every configuration before it.
        rewrite(relay, only_to("two@x.example"))
        wait_until(lambda: relay.log().count("configuration read again") == 2, seconds=20, what="reload")
        assert old.command("MAIL FROM:<a@client.example>").code == 421


def test_mail_of_a_flow_that_is_gone_is_deferred(new_relay: Make) -> None:
    """The mail was begun under the flow: a 250 would deliver it nowhere."""
    relay = new_relay().start()

    def rename(config: dict[str, Any]) -> None:
        config["flows"] = {"another": next(iter(config["flows"].values()))}

    with Wire(relay.port) as old:
        old.begin()
        rewrite(relay, rename)
        wait_until(lambda: "configuration read again" in relay.log(), seconds=20, what="reload")
        old.send(MAIL + b".\r\n")
        assert old.reply().code == 451
    assert submit(relay.port, MAIL).code == 250


@pytest.mark.parametrize(
    "text",
    ["{", '{"flows": {"a": {"filter": []}}}', '{"flows": {}, "spool": "file://./elsewhere"}'],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_one_changes_nothing(new_relay: Make, text: str, workers: int) -> None:
    relay = new_relay({"workers": workers}).start()
    relay.path.write_text(text)
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: "was not used" in relay.log(), seconds=10, what="the refusal")
    assert submit(relay.port, MAIL).code == 250
    assert "Traceback" not in relay.log()


def needs(filters: list[dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for flow in config["flows"].values():
            flow["filters"] = [*flow["filters"], *filters]

    return change


CANNOT_BE: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "a secret that is not there": needs(
        [{"type": "static-auth", "username": "u", "password": "env:NOT_SET_ANYWHERE"}]
    ),
    "a file that is not there": needs([{"type": "static-auth", "htpasswd": "./nowhere"}]),
    "another way of delivery": lambda config: config.update(delivery={"mode": "events"}),
    "another spool": lambda config: config.update(spool="file://./elsewhere"),
    "a log that cannot be written": lambda config: config.update(
        loggers=[{"type": "FILE", "filepath": "./no/such/folder.log"}]
    ),
    "a port of somebody else's": lambda config: config.update(port=config["port"], bind="192.0.2.1"),
}


@pytest.mark.parametrize("change", CANNOT_BE.values(), ids=CANNOT_BE.keys())
@pytest.mark.parametrize("workers", [1, 2])
def test_one_that_cannot_be_carried_out_changes_nothing(
    new_relay: Make, change: Callable[[dict[str, Any]], object], workers: int
) -> None:
    """The same for a worker that dies later and is started again."""
    relay = new_relay({"workers": workers}).start()
    wait_until(lambda: len(listening(relay)) == workers, seconds=20, what="all to listen")
    rewrite(relay, change)
    wait_until(lambda: "was not used" in relay.log(), seconds=20, what="the refusal")
    assert submit(relay.port, MAIL).code == 250
    if workers > 1:
        replace_workers(relay)
        for _ in range(6):
            assert submit(relay.port, MAIL).code == 250
        assert not (relay.folder / "elsewhere").exists()
    assert "Traceback" not in relay.log()
    assert relay.stop() == 0


def test_clients_are_served_while_a_secret_is_fetched(new_relay: Make) -> None:
    """A pipe stands for a slow secret store."""
    relay = new_relay().start()
    store = relay.folder / "store"
    os.mkfifo(store)
    rewrite(relay, needs([{"type": "static-auth", "username": "u", "password": f"file://{store}"}]))
    for _ in range(10):
        assert submit(relay.port, MAIL).code == 250
        time.sleep(0.02)
    assert "configuration read again" not in relay.log()
    store.write_text("plain:secret")
    wait_until(lambda: "configuration read again" in relay.log(), seconds=20, what="reload")
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>").code == 530


def test_a_reload_that_comes_too_late_opens_nothing(new_relay: Make) -> None:
    relay = new_relay().start()
    store, fresh = relay.folder / "store", free_port()
    os.mkfifo(store)

    def change(config: dict[str, Any]) -> None:
        needs([{"type": "static-auth", "username": "u", "password": f"file://{store}"}])(config)
        config["port"] = fresh

    with Wire(relay.port) as wire:
        wire.begin()
        rewrite(relay, change)
        time.sleep(0.3)
        os.kill(relay.pid, signal.SIGTERM)
        wait_until(lambda: "draining" in relay.log(), seconds=10, what="the drain")
        store.write_text("plain:secret")
        wait_until(lambda: "the server is stopping" in relay.log(), seconds=10, what="the refusal")
        with pytest.raises(ConnectionRefusedError):
            Wire(fresh)
        wire.send(MAIL + b".\r\n")
        assert wire.reply().code == 250
    assert relay.stop() == 0


def test_min_free_space_takes_effect(new_relay: Make) -> None:
    relay = new_relay().start()
    rewrite(relay, lambda config: config["options"].update(minFreeSpace=2**62))
    wait_until(lambda: "configuration read again" in relay.log(), seconds=20, what="reload")

    def full() -> bool:
        with Wire(relay.port) as wire:
            wire.greet()
            wire.command("MAIL FROM:<a@client.example>")
            wire.command("RCPT TO:<b@server.example>")
            return str(wire.command("DATA")).startswith("452 4.3.1 ")

    wait_until(full, seconds=10, what="the next look at the disk")


def test_workers_that_are_started_later_log_where_the_others_do(new_relay: Make) -> None:
    relay = new_relay({"workers": 2}).start()
    wait_until(lambda: len(listening(relay)) == 2, seconds=20, what="both to listen")
    file = relay.folder / "new.log"
    rewrite(relay, lambda config: config.update(loggers=[{"type": "FILE", "filepath": str(file)}]))
    wait_until(
        lambda: file.exists() and file.read_text().count("configuration read again") == 2,
        seconds=20,
        what="reload",
    )
    replace_workers(relay)
    before = file.read_text().count("mail accepted")
    for _ in range(6):
        assert submit(relay.port, MAIL).code == 250
    wait_until(lambda: file.read_text().count("mail accepted") == before + 6, seconds=10, what="the lines")
    assert "a process of the server died" in file.read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_has_to_wait_for_a_restart_is_said(new_relay: Make, workers: int) -> None:
    relay = new_relay({"workers": workers}).start()
    wait_until(lambda: len(listening(relay)) == workers, seconds=20, what="all to listen")
    rewrite(relay, lambda config: config.update(health={"portNumber": free_port()}))
    wait_until(lambda: relay.log().count("configuration read again") == workers, seconds=20, what="reload")
    assert relay.log().count("take effect when the server is restarted") == 1


def replace_workers(relay: Relay) -> None:
    """Kill every worker, and wait for each until another listens in its place."""
    for pid in listening(relay):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(listening(relay)) - {pid}) == 2, seconds=20, what="another worker")  # noqa: B023


def listening(relay: Relay) -> list[int]:
    """The processes that listen on the relay's port: the only one, or the workers."""
    return [pid for pid in tree(relay.pid) if is_listening(pid, relay.port)]


def test_a_worker_whose_secret_vanished_is_waited_for(new_relay: Make) -> None:
    """The other workers still have it, and serve."""
    relay = new_relay({"workers": 2})
    users = relay.folder / "users"
    users.write_text("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    needs([{"type": "static-auth", "htpasswd": str(users)}])(relay.config)
    relay.config["flows"]["all"]["filtersOperator"] = "OR"
    relay.start()
    wait_until(lambda: len(listening(relay)) == 2, seconds=20, what="both to listen")
    users.rename(relay.folder / "away")
    one = listening(relay)[0]
    os.kill(one, signal.SIGKILL)
    wait_until(lambda: "cannot be read" in relay.log(), seconds=20, what="the complaint")
    assert submit(relay.port, MAIL).code == 250
    (relay.folder / "away").rename(users)
    wait_until(lambda: len(listening(relay)) == 2, seconds=20, what="the worker")
    assert relay.stop() == 0


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


def test_ports_come_go_and_are_renamed_before_several_workers(new_relay: Make) -> None:
    """Workers that are started later serve them too, under their new names."""
    relay = new_relay({"workers": 2}).start()
    wait_until(lambda: len(listening(relay)) == 2, seconds=20, what="both to listen")
    fresh = free_port()

    def add(config: dict[str, Any]) -> None:
        config["listeners"] = [
            {"name": "mx", "port": config.pop("port"), "bind": config.pop("bind")},
            {"name": "submission", "port": fresh},
        ]

    rewrite(relay, add)
    wait_until(lambda: relay.log().count("configuration read again") == 2, seconds=20, what="reload")
    for _ in range(2):
        for _ in range(6):
            assert submit(relay.port, MAIL).code == 250
            assert submit(fresh, MAIL).code == 250
        replace_workers(relay)

    rewrite(relay, lambda config: config["listeners"].pop())
    wait_until(lambda: relay.log().count("configuration read again") == 4, seconds=20, what="reload")
    with pytest.raises(ConnectionRefusedError):
        Wire(fresh)
    replace_workers(relay)
    with pytest.raises(ConnectionRefusedError):
        Wire(fresh)
    assert submit(relay.port, MAIL).code == 250
    assert "Traceback" not in relay.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_signals_close_to_each_other(new_relay: Make, workers: int) -> None:
    """The last one's configuration is what remains."""
    relay = new_relay({"workers": workers}).start()
    for number in range(8):
        rewrite(relay, only_to(f"u{number}@x.example"))
    wait_until(lambda: "configuration read again" in relay.log(), seconds=20, what="reload")

    def settled() -> bool:
        with Wire(relay.port) as wire:
            wire.greet()
            if wire.command("MAIL FROM:<a@client.example>").code != 250:
                return False  # a connection of an earlier one
            return wire.command("RCPT TO:<u7@x.example>").code == 250

    wait_until(lambda: all(settled() for _ in range(6)), seconds=20, what="the last configuration")
    assert "Traceback" not in relay.log()


class EarlySignals(Relay):
    """A server that gets SIGHUP while it starts: before its ports are open, then after."""

    SCRIPT: Final = """
import os, signal, sys
import listener.server.run as start
from listener.cli.main import main
from listener.server.worker import Server

def early(function):
    def called(*arguments, **options):
        os.kill(os.getpid(), signal.SIGHUP)
        return function(*arguments, **options)
    return called

start.bind, Server._tick = early(start.bind), early(Server._tick)
sys.exit(main(["serve", sys.argv[1]]))
"""

    @staticmethod
    def command_for(*configuration: Path) -> list[str]:
        return [sys.executable, "-c", EarlySignals.SCRIPT, *map(str, configuration)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_while_it_starts_asks_for_a_reload_too(tmp_path: Path, workers: int) -> None:
    early = EarlySignals(tmp_path, {"workers": workers}).start()
    try:
        wait_until(
            lambda: early.log().count("configuration read again") >= workers, seconds=10, what="reload"
        )
        assert submit(early.port, MAIL).code == 250
    finally:
        assert early.stop() == 0


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
