"""Mails of one moment and mails of one name never overwrite each other.

The replaced system kept 8 of 1,500 mails that came over one connection.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.clients.load import Load, settle
from tests.support.clients.wire import Wire
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

BATCH = 50


def _send_pipelined(port: int, numbers: range) -> None:
    """All mails over one connection, each with the next one's commands behind it."""
    with Wire(port, patience=60) as wire:
        wire.greet()
        envelope = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n"
        wire.send(envelope)
        for number in numbers:
            assert [wire.reply().code for _ in range(3)] == [250, 250, 354]
            last = number == numbers[-1]
            wire.send(b"Subject: %d\r\n\r\nx\r\n.\r\n" % number + (b"QUIT\r\n" if last else envelope))
            assert wire.reply().code == 250


@pytest.mark.parametrize("filename", ["${iso8601}.eml", "same.eml", "${from}", "mail"])
def test_none_is_lost(relay_for: Make, filename: str) -> None:
    relay = relay_for({"flows": {"all": flow(filename=filename)}})
    relay.forget()
    _send_pipelined(relay.port, range(300))
    subjects = [mail.partition(b"Subject: ")[2].partition(b"\r\n")[0] for mail in relay.mails()]
    assert sorted(map(int, subjects)) == list(range(300))


def test_fifteen_hundred_on_one_connection(relay: Relay) -> None:
    _send_pipelined(relay.port, range(1500))
    assert len(relay.files()) == 1500


@pytest.mark.parametrize("workers", [1, 2])
def test_many_senders_and_one_name(new_relay: Make, workers: int) -> None:
    relay = new_relay({"workers": workers, "flows": {"all": flow(filename="same.eml")}}).start()
    load = Load()
    with load.senders(relay.port, 6):
        while len(load.answered) < 300:
            assert relay.alive
    settle(relay, least=len(load.answered))
    load.audit(relay.files())


def test_two_flows_with_one_folder_and_name(new_relay: Make) -> None:
    """A mail that two flows took is stored by each, under names of their own."""
    both = {"one": flow(filename="same.eml"), "two": flow(filename="same.eml")}
    relay = new_relay({"flows": both}).start()
    _send_pipelined(relay.port, range(50))
    settle(relay, least=100)
    assert len(relay.files()) == 100


def test_values_cannot_leave_the_folder(new_relay: Make) -> None:
    relay = new_relay({"flows": {"all": flow(filename="${from}-${subject}.eml")}}).start()
    mail = b"Subject: ../../../../tmp/x\r\n\r\nx\r\n"
    with Wire(relay.port) as wire:
        wire.begin("../../x/../y/z@client.example")
        wire.send(mail + b".\r\n")
        assert wire.reply().code == 250
    (file,) = relay.files()
    assert file.parent == relay.received
    assert "/" not in file.name
    assert ".." not in file.name
