"""Floods, slowness and nonsense of strangers, and the server's bounds (docs/limits.md)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

import pytest

from tests.support.clients.wire import Closed, Wire
from tests.support.net import wait_until
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]


def _until_closed(wire: Wire, lines: bytes, *, most: int) -> list[int]:
    """Send a line again and again until the server hangs up; returns the codes of its replies."""
    codes = []
    try:
        for _ in range(most):
            codes.append(wire.command(lines).code)
    except (Closed, ConnectionError):
        return codes
    return codes


def test_too_many_recipients(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>").code == 250
        for number in range(1000):
            assert wire.command(f"RCPT TO:<u{number}@server.example>").code == 250
        reply = wire.command("RCPT TO:<one.more@server.example>")
        assert (reply.code, reply.text[:5]) == (452, "4.5.3")
        assert wire.command("DATA").code == 354
        wire.send(b"a: b\r\n.\r\n")
        assert wire.reply().code == 250
    assert len(relay.mails()) == 1


def _refused_one_by_one(wire: Wire, count: int) -> list[int]:
    return [wire.command(f"RCPT TO:<x{number}@elsewhere.example>").code for number in range(count)]


class TestRefusedRecipients:
    ONE: Final = {"flows": {"in": flow({"type": "whitelist", "to": ["b@server.example"]})}}

    def test_too_many_end_the_connection(self, relay_for: Make) -> None:
        with Wire(relay_for(self.ONE).port) as wire:
            wire.greet()
            wire.command("MAIL FROM:<a@client.example>")
            assert _refused_one_by_one(wire, 50) == [550] * 50
            assert wire.command("RCPT TO:<x@elsewhere.example>").code == 421
            assert wire.rest() == b""

    def test_the_number_is_an_option(self, relay_for: Make) -> None:
        with Wire(relay_for(self.ONE, maxRefusedRecipients=3).port) as wire:
            wire.greet()
            wire.command("MAIL FROM:<a@client.example>")
            assert _refused_one_by_one(wire, 4) == [550, 550, 550, 421]

    def test_other_mails_of_the_connection_count_too(self, relay_for: Make) -> None:
        """A new mail for each guess does not help the client."""
        with Wire(relay_for(self.ONE, maxRefusedRecipients=3).port) as wire:
            wire.greet()
            for last in (550, 550, 550, 421):
                wire.command("MAIL FROM:<a@client.example>")
                assert wire.command("RCPT TO:<x@elsewhere.example>").code == last
                if last == 550:
                    wire.command("RSET")

    def test_those_of_a_mail_with_an_accepted_recipient_do_not_count(self, relay_for: Make) -> None:
        """A mailing list with a hundred old addresses in it is no attack."""
        relay = relay_for(self.ONE, maxRefusedRecipients=3)
        with Wire(relay.port) as wire:
            wire.greet()
            wire.command("MAIL FROM:<a@client.example>")
            assert _refused_one_by_one(wire, 3) == [550] * 3
            assert wire.command("RCPT TO:<b@server.example>").code == 250
            assert _refused_one_by_one(wire, 100) == [550] * 100
            assert wire.command("DATA").code == 354
            wire.send(b"a: b\r\n.\r\n")
            assert wire.reply().code == 250
            wire.command("MAIL FROM:<a@client.example>")
            assert _refused_one_by_one(wire, 4) == [550, 550, 550, 421], "an accepted mail begins anew"

    def test_addresses_that_no_output_takes_count(self, relay_for: Make) -> None:
        ses = {"type": "aws", "ses": {}, "sesClient": {"region": "eu-west-1"}}
        config = {"flows": {"in": {**flow(), "outputs": [ses]}}}
        with Wire(relay_for(config, maxRefusedRecipients=3).port) as wire:
            wire.greet()
            assert wire.command("MAIL FROM:<a@client.example> SMTPUTF8").code == 250
            codes = [wire.command(f"RCPT TO:<j\u00f6rg{n}@server.example>").code for n in range(4)]
            assert codes == [553, 553, 553, 421]


@pytest.mark.parametrize("line", [b"FOO", b"MAIL FROM:<", b"RCPT TO:<a@b.example>", b"AUTH", b"\xff\xff"])
def test_a_flood_of_errors_ends(relay: Relay, line: bytes) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        codes = _until_closed(wire, line, most=200)
    assert codes[-1] == 421
    assert len(codes) <= 100


@pytest.mark.parametrize("line", [b"NOOP", b"RSET", b"VRFY a", b"HELP", b"EHLO a.example"])
def test_a_flood_of_idle_commands_ends(relay: Relay, line: bytes) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        codes = _until_closed(wire, line, most=2000)
    assert codes[-1] == 421
    assert len(codes) < 2000


def test_mail_and_rset_for_ever_ends(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        codes = []
        try:
            for _ in range(2000):
                codes.append(wire.command("MAIL FROM:<a@client.example>").code)
                codes.append(wire.command("RSET").code)
        except (Closed, ConnectionError):
            pass
    assert codes[-1] == 421


def test_idle_commands_between_mails_are_fine(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        for _ in range(60):
            for line in ("RSET", "NOOP", "NOOP"):
                assert wire.command(line).code == 250
            wire.envelope()
            wire.send(b"a: b\r\n.\r\n")
            assert wire.reply().code == 250


@pytest.mark.parametrize("length", [5_000, 100_000])
@pytest.mark.parametrize("start", [b"NOOP ", b"", b"MAIL FROM:<"])
def test_an_overlong_command(relay: Relay, start: bytes, length: int) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        wire.send(start + b"x" * length)
        if length < 65_536:
            wire.send(b"\r\nNOOP\r\n")
            assert [wire.reply().code, wire.reply().code] == [500, 250], "the connection is usable"
            return
        try:
            wire.send(b"\r\nNOOP\r\n")
            reply = wire.reply()
        except ConnectionError:
            return  # hung up before the end of the line: fine as well
        assert (reply.code, reply.text[:4]) == (500, "5.5."), reply


def test_a_line_without_an_end_stays_bounded(relay: Relay) -> None:
    relay.reset_peak()
    before = relay.peak()
    with Wire(relay.port) as wire:
        wire.greet()
        with contextlib.suppress(OSError):
            for _ in range(2000):
                wire.send(b"x" * 100_000)
            pytest.fail("200 MB of one line were read")
    assert relay.peak() - before < 4_000_000


def test_commands_of_ordinary_length(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("NOOP " + "x" * 505).code == 250


def test_pipelined_commands_stay_bounded(relay: Relay) -> None:
    """A client that sends commands and never reads the replies."""
    relay.reset_peak()
    before = relay.peak()
    with Wire(relay.port) as wire:
        wire.greet()
        wire.socket.settimeout(2)
        with contextlib.suppress(OSError):
            for _ in range(3000):
                wire.send(b"VRFY a\r\n" * 2000)
    assert relay.peak() - before < 8_000_000


@pytest.mark.parametrize(
    "method", ["GET / HTTP/1.1", "POST /x HTTP/1.1", "OPTIONS * HTTP/1.0", "CONNECT a:1 HTTP/1.1"]
)
def test_http_is_turned_away(relay: Relay, method: str) -> None:
    with Wire(relay.port) as wire:
        assert wire.reply().code == 220
        wire.send(f"{method}\r\nHost: x\r\nContent-Length: 60\r\n\r\nEHLO x\r\nMAIL FROM:<a@b>\r\n".encode())
        codes = [int(line[:3]) for line in wire.rest().decode().splitlines()]
    assert codes
    assert all(code in (500, 554, 421) for code in codes)
    assert codes[-1] in (554, 421)


def test_an_early_talker_is_turned_away_or_answered_in_order(relay: Relay) -> None:
    """If there is nothing to wait for, the greeting is sent before a client can be early."""
    with Wire(relay.port) as wire:
        wire.send(b"EHLO client.example\r\n")
        first = wire.reply()
        assert first.code in (220, 554)


def test_silence_ends_with_421(new_relay: Make) -> None:
    relay = new_relay(socketTimeout=1500).start()
    for said in ([], ["EHLO client.example"], ["EHLO client.example", "MAIL FROM:<a@client.example>"]):
        with Wire(relay.port) as wire:
            wire.reply()
            for line in said:
                wire.command(line)
            began = time.monotonic()
            rest = wire.rest(seconds=10)
            assert rest.startswith(b"421 4.4.2 "), rest
            assert 1.0 < time.monotonic() - began < 6


def test_silence_in_data_ends(new_relay: Make) -> None:
    relay = new_relay(socketTimeout=1500).start()
    with Wire(relay.port) as wire:
        wire.begin()
        wire.send(b"a: b\r\n\r\nhalf a mail")
        rest = wire.rest(seconds=10)
        assert rest.startswith(b"421 4.4.2 "), rest
    assert relay.mails() == []


def test_a_slow_upload_is_not_cut(new_relay: Make) -> None:
    """Stock aiosmtpd lets its session timer run during DATA."""
    relay = new_relay(socketTimeout=1500, minDataRate=10).start()
    with Wire(relay.port) as wire:
        wire.begin()
        wire.send(b"a: b\r\n\r\n")
        for _ in range(16):
            time.sleep(0.25)
            wire.send(b"some more of the mail\r\n")
        wire.send(b".\r\n")
        assert wire.reply().code == 250


def _cut_off(wire: Wire, *, within: float) -> bool:
    """True if the server rejects or disconnects a client that sends five bytes a second."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            wire.send(b"x")
        except OSError:
            return True
        if not wire.silent(seconds=0.2):
            return True
    return False


def test_a_byte_now_and_then_is_cut(new_relay: Make) -> None:
    relay = new_relay(socketTimeout=2000, minDataRate=1000).start()
    with Wire(relay.port) as wire:
        wire.begin()
        assert _cut_off(wire, within=45)


def test_a_byte_of_a_command_now_and_then_is_cut(new_relay: Make) -> None:
    relay = new_relay(socketTimeout=2000).start()
    with Wire(relay.port) as wire:
        assert wire.reply().code == 220
        assert _cut_off(wire, within=20)


def test_too_many_clients(new_relay: Make) -> None:
    relay = new_relay(maxClients=3).start()
    # The probe that saw the port open must be gone first.
    held: list[Wire] = []
    wait_until(lambda: _enter(relay.port, held), seconds=5, what="three clients let in")
    with Wire(relay.port) as fourth:
        assert fourth.rest().startswith(b"421 4."), "the fourth client"
    held.pop().socket.close()
    wait_until(lambda: _enter(relay.port, held), seconds=5, what="a place after one left")
    for wire in held:
        wire.socket.close()


def _enter(port: int, held: list[Wire]) -> bool:
    while len(held) < 3:
        wire = Wire(port)
        if wire.reply().code != 220:
            wire.socket.close()
            return False
        held.append(wire)
    return True


def test_too_many_clients_of_one_address(new_relay: Make) -> None:
    relay = new_relay(maxClientsPerIp=3).start()
    held: list[Wire] = []
    wait_until(lambda: _enter(relay.port, held), seconds=5, what="three clients let in")
    with Wire(relay.port) as fourth:
        assert fourth.rest().startswith(b"421 4.")
    for wire in held:
        wire.socket.close()


def test_too_many_mails_on_one_connection(relay_for: Make) -> None:
    relay = relay_for(maxMessagesPerConnection=2)
    with Wire(relay.port) as wire:
        wire.greet()
        for _ in range(2):
            wire.envelope()
            wire.send(b"a: b\r\n.\r\n")
            assert wire.reply().code == 250
        assert wire.command("MAIL FROM:<a@client.example>").code == 421
        assert wire.rest() == b""


def test_connections_dropped_anywhere_leave_nothing(relay: Relay) -> None:
    script = (
        b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n"
        b"a: b\r\n\r\n" + b"x" * 100_000 + b"\r\n"
    )
    before = relay.open_files()
    for cut in (0, 3, 21, 40, 60, 100, 130, 150, 5_000, 70_000, len(script)):
        with Wire(relay.port) as wire:
            wire.reply()
            wire.send(script[:cut])
            wire.silent(seconds=0.02)
    wait_until(lambda: relay.open_files() <= before, seconds=5, what="descriptors closed")
    assert relay.mails() == []
    assert not list(relay.spool.rglob("*.eml")), "captured halves are removed"


def test_gone_between_the_dot_and_the_answer(relay: Relay) -> None:
    """The mail is complete: it is delivered exactly once, whether or not the client saw 250."""
    for number in range(20):
        with Wire(relay.port) as wire:
            wire.begin()
            wire.send(b"Subject: %d\r\n\r\nx\r\n.\r\n" % number)
    wait_until(lambda: len(relay.files()) >= 20, seconds=10, what="all mails")
    subjects = [mail.partition(b"Subject: ")[2].partition(b"\r\n")[0] for mail in relay.mails()]
    assert sorted(map(int, subjects)) == list(range(20))
