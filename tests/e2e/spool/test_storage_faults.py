"""Folders that cannot be written and disks that are full: the client gets 4xx, or a later attempt
delivers; no mail that was answered 250 is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.clients.load import Load, numbered, settle
from tests.support.clients.wire import Reply, submit
from tests.support.disks import Disk, small_disk
from tests.support.net import wait_until
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

IMPATIENT: Final = {"wait": 1500, "retry": {"first": 300, "max": 600}}

SMALL: Final = 1
LARGE: Final = 7  # `numbered` makes every seventh one large: captured in a file


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", 24) as mounted:
        yield mounted


def _after_the_fault(relay: Relay, reply: Reply, number: int) -> None:
    """The fault is gone: each mail that was answered 250 arrives, the others need not."""
    load = Load()
    load.sent = {number}
    if reply.code == 250:
        load.answered = {number}
        wait_until(lambda: len(relay.files()) == 1, seconds=15, what="the retried delivery")
    settle(relay, least=len(load.answered))
    load.audit(relay.files())
    relay.forget()
    assert submit(relay.port, numbered(number)).code == 250
    settle(relay, least=1)
    assert relay.alive
    assert "Traceback" not in relay.log()


@pytest.mark.parametrize("number", [SMALL, LARGE])
def test_output_folder_replaced_by_a_file(new_relay: Make, number: int) -> None:
    relay = new_relay({"delivery": IMPATIENT}).start()
    assert submit(relay.port, numbered(number)).code == 250
    shutil.rmtree(relay.received)
    relay.received.write_text("in the way")
    reply = submit(relay.port, numbered(number))
    assert reply.code in (250, 451, 452, 554), reply
    assert str(relay.folder) not in str(reply)
    relay.received.unlink()
    _after_the_fault(relay, reply, number)


@pytest.mark.parametrize("number", [SMALL, LARGE])
def test_output_folder_removed(new_relay: Make, number: int) -> None:
    relay = new_relay({"delivery": IMPATIENT}).start()
    assert submit(relay.port, numbered(number)).code == 250
    shutil.rmtree(relay.received)
    _after_the_fault(relay, submit(relay.port, numbered(number)), number)


@pytest.mark.parametrize("number", [SMALL, LARGE])
def test_output_on_a_full_disk(new_relay: Make, disk: Disk, number: int) -> None:
    relay = new_relay({"delivery": IMPATIENT, "flows": {"all": flow(path=str(disk.path / "in"))}})
    relay.received = disk.path / "in"
    relay.start()
    assert submit(relay.port, numbered(number)).code == 250
    relay.forget()
    disk.fill()
    reply = submit(relay.port, numbered(number))
    assert reply.code in (250, 451, 452), reply
    disk.relieve()
    _after_the_fault(relay, reply, number)


@pytest.mark.parametrize("number", [SMALL, LARGE])
def test_output_on_a_read_only_disk(new_relay: Make, disk: Disk, number: int) -> None:
    relay = new_relay({"delivery": IMPATIENT, "flows": {"all": flow(path=str(disk.path / "in"))}})
    relay.received = disk.path / "in"
    relay.start()
    assert submit(relay.port, numbered(number)).code == 250
    relay.forget()
    disk.read_only(True)
    reply = submit(relay.port, numbered(number))
    assert reply.code in (250, 451, 452), reply
    disk.read_only(False)
    _after_the_fault(relay, reply, number)


def test_restarted_while_an_output_fails(new_relay: Make) -> None:
    """A mail that was answered 250 while its folder was unwritable survives a SIGKILL. The next start says
    which folder it is, and the one after that delivers."""
    relay = new_relay({"delivery": IMPATIENT}).start()
    shutil.rmtree(relay.received, ignore_errors=True)
    relay.received.write_text("in the way")
    load = Load()
    with load.senders(relay.port, 2):
        wait_until(lambda: len(load.sent) > 3, seconds=20, what="some mails")
    relay.kill()
    with pytest.raises(RuntimeError, match="received cannot take files"):
        relay.start()
    relay.received.unlink()
    relay.start()
    wait_until(lambda: len(relay.files()) >= len(load.answered), seconds=30, what="the retried deliveries")
    settle(relay, least=len(load.answered))
    load.audit(relay.files())


OTHERS: Final = ("another output", "another flow", "a later attempt")


@pytest.mark.parametrize("others", OTHERS)
def test_a_consumer_that_empties_its_file_changes_nothing_for_others(new_relay: Make, others: str) -> None:
    """A large mail is a file of the spool: linked to an output, it belongs to the consumer."""
    copies = {"type": "file", "path": "{folder}/copies"}
    flows = {"all": flow()}
    if others == "another flow":
        flows["copies"] = flow(path="{folder}/copies")
    else:
        flows["all"]["outputs"].append(copies)
    relay = new_relay({"delivery": IMPATIENT, "flows": flows}).start()
    folder = relay.folder / "copies"
    if others == "a later attempt":
        shutil.rmtree(folder)
        folder.write_text("in the way")
    assert submit(relay.port, numbered(LARGE)).code == 250
    wait_until(lambda: len(relay.files()) == 1, seconds=10, what="the first file")
    os.truncate(relay.files()[0], 0)
    if others == "a later attempt":
        folder.unlink()
    wait_until(lambda: folder.is_dir() and any(folder.glob("*.eml")), seconds=15, what="the other file")
    load = Load()
    load.sent = load.answered = {LARGE}
    load.audit(list(folder.glob("*.eml")))
    assert relay.files()[0].stat().st_size == 0


class TestSpool:
    @pytest.fixture
    def relay(self, new_relay: Make, disk: Disk) -> Relay:
        config = {"spool": f"file://{disk.path}/spool", "delivery": IMPATIENT}
        return new_relay(config, minFreeSpace=0).start()

    @pytest.mark.parametrize("number", [SMALL, LARGE])
    def test_full(self, relay: Relay, disk: Disk, number: int) -> None:
        assert submit(relay.port, numbered(number)).code == 250
        relay.forget()
        disk.fill()
        reply = submit(relay.port, numbered(number))
        assert reply.code in (250, 451, 452), reply
        assert str(disk.path) not in str(reply)
        disk.relieve()
        _after_the_fault(relay, reply, number)

    def test_filling_up_under_load(self, relay: Relay, disk: Disk) -> None:
        load = Load()
        disk.fill(leave=400_000)
        with load.senders(relay.port, 6):
            wait_until(lambda: len(load.sent) > 150, seconds=30, what="some mails")
            disk.relieve()
            reached = len(load.sent)
            wait_until(lambda: len(load.sent) > reached + 50, seconds=30, what="more mails")
        settle(relay, least=len(load.answered))
        load.audit(relay.files())
        assert relay.alive

    def test_killed_while_full(self, relay: Relay, disk: Disk) -> None:
        load = Load()
        disk.fill(leave=400_000)
        with load.senders(relay.port, 6):
            wait_until(lambda: len(load.sent) > 100, seconds=30, what="some mails")
            relay.kill()
        disk.relieve()
        relay.start()
        settle(relay, least=len(load.answered))
        load.audit(relay.files())

    def test_little_space_left(self, new_relay: Make, disk: Disk) -> None:
        """Below `minFreeSpace` the mail is deferred before it is sent; above it is accepted again."""
        config = {"spool": f"file://{disk.path}/spool", "delivery": IMPATIENT}
        relay = new_relay(config, minFreeSpace=8_000_000).start()
        assert submit(relay.port, numbered(SMALL)).code == 250
        disk.fill(leave=1_000_000)

        def put_off() -> bool:
            try:
                return submit(relay.port, numbered(SMALL)).code == 452
            except AssertionError as refused:  # at MAIL or DATA already
                return "452 " in str(refused) or "(452," in str(refused) or "code=452" in str(refused)

        wait_until(put_off, seconds=10, every=0.2, what="452")
        disk.relieve()

        def taken() -> bool:
            try:
                return submit(relay.port, numbered(SMALL)).code == 250
            except AssertionError:
                return False

        wait_until(taken, seconds=10, every=0.2, what="250")
