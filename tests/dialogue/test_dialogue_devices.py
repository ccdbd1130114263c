"""The relay takes several things that printers, scanners and old mailers send against the RFCs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

import pytest

from tests.support.clients.wire import Wire
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

USERS = {"type": "static-auth", "username": "jos\u00e9", "password": "plain:gar\u00e7on"}


@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t "])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_blanks_and_tabs_may_stand_around_the_colon(
    relay: Relay, blank: bytes, before: bool, after: bool
) -> None:
    colon = (blank if before else b"") + b":" + (blank if after else b"")
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command(b"MAIL FROM" + colon + b"<a@client.example> SIZE=10").code == 250
        assert wire.command(b"rcpt to" + colon + b"<b@server.example>").code == 250
        assert wire.command("DATA").code == 354
        wire.send(b"a: b\r\n.\r\n")
        assert wire.reply().code == 250
    assert len(relay.mails()) == 1


@pytest.mark.parametrize("line", [b"MAIL\tFROM:<a@client.example>", b"MAIL  FROM:<>", b"MAIL \tFROM\t:\t<>"])
def test_tabs_and_more_blanks_may_stand_behind_the_verb(relay: Relay, line: bytes) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command(line).code == 250


@pytest.mark.parametrize(
    "line",
    [b"MAIL FROM", b"MAIL FROM <a@b.example>", b"MAIL FR OM:<a@b.example>", b"MAIL FROM::<a@b.example>"],
)
def test_the_colon_itself_stays_necessary(relay: Relay, line: bytes) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command(line).code == 501
        assert wire.command(line.replace(b"MAIL FR", b"RCPT FR")).code in (501, 503)


@pytest.mark.parametrize("parameters", ["SIZE=100", "BODY=8BITMIME", "BODY=7BIT SIZE=100"])
def test_size_and_body_are_taken_after_helo(relay: Relay, parameters: str) -> None:
    with Wire(relay.port) as wire:
        wire.greet(verb="HELO")
        assert wire.command(f"MAIL FROM:<a@client.example> {parameters}").code == 250


def test_the_size_that_is_told_after_helo_counts(relay_for: Make) -> None:
    relay = relay_for(size=1000)
    with Wire(relay.port) as wire:
        wire.greet(verb="HELO")
        assert wire.command("MAIL FROM:<a@client.example> SIZE=1001").code == 552
        assert wire.command("MAIL FROM:<a@client.example> BODY=BINARYMIME").code == 501


class TestAuth:
    @pytest.fixture
    def relay(self, relay_for: Make) -> Relay:
        return relay_for({"flows": {"in": flow(USERS)}}, authOptional=False, allowInsecureAuth=True)

    @staticmethod
    def plain(authzid: str, name: str, password: str, encoding: str = "utf-8") -> str:
        return "AUTH PLAIN " + b64encode(f"{authzid}\0{name}\0{password}".encode(encoding)).decode()

    @pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
    def test_plain_in_latin_1_is_understood(self, relay: Relay, encoding: str) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command(self.plain("", "jos\u00e9", "gar\u00e7on", encoding)).code == 235

    @pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
    def test_login_in_latin_1_is_understood(self, relay: Relay, encoding: str) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command("AUTH LOGIN").code == 334
            assert wire.command(b64encode("jos\u00e9".encode(encoding))).code == 334
            assert wire.command(b64encode("gar\u00e7on".encode(encoding))).code == 235

    def test_name_and_password_may_be_written_differently(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            response = b"\0" + "jos\u00e9".encode() + b"\0" + "gar\u00e7on".encode("latin-1")
            assert wire.command(b"AUTH PLAIN " + b64encode(response)).code == 235

    def test_a_wrong_password_in_latin_1_fails_as_others_do(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command(self.plain("", "jos\u00e9", "gar\u00e9on", "latin-1")).code == 535

    def test_no_user_may_act_for_another_one(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command(self.plain("root", "jos\u00e9", "gar\u00e7on")).code == 535
            assert wire.command("MAIL FROM:<a@client.example>").code == 530
            assert wire.command(self.plain("jos\u00e9", "jos\u00e9", "gar\u00e7on")).code == 235

    def test_asking_to_act_for_another_user_counts_as_a_failure(self, relay_for: Make) -> None:
        relay = relay_for(
            {"flows": {"in": flow(USERS)}}, authOptional=False, allowInsecureAuth=True, maxAuthFailures=2
        )
        with Wire(relay.port) as wire:
            wire.greet()
            for _ in range(2):
                assert wire.command(self.plain("root", "jos\u00e9", "gar\u00e7on")).code == 535
            assert wire.reply().code == 421
