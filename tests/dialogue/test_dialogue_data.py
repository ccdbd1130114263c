"""DATA: transparency, the end of the mail, bare CR and LF, NUL, sizes (RFC 5321 4.5.2, 2.3.8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.support.clients.splits import send_split
from tests.support.clients.wire import Wire, stuffed, submit
from tests.support.mails.stored import below, mended, strip_added_fields
from tests.support.servers.relay import Relay

# Sequences that some servers take for the end of a mail, and this one must not.
FALSE_ENDS: Final = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r.\n",
    b"\r\n\0.\r\n",
]

SMUGGLED: Final = b"\r\n".join(
    (
        b"MAIL FROM:<evil@client.example>",
        b"RCPT TO:<victim@server.example>",
        b"DATA",
        b"Subject: no",
        b"",
        b"x",
    )
)


@pytest.mark.parametrize("end", FALSE_ENDS)
@pytest.mark.parametrize("mode", ["normalize", "refuse"])
def test_no_false_end_ends_a_mail(relay_for: Callable[..., Relay], end: bytes, mode: str) -> None:
    relay = relay_for(bareNewline=mode)
    content = b"Subject: first\r\n\r\none" + end + SMUGGLED + b"\r\n"
    taken = mode == "normalize" and b"\0" not in end

    def check(wire: Wire, cut: int) -> None:
        reply = wire.reply()
        if taken:
            assert (reply.code, reply.text[:5]) == (250, "2.0.0"), f"cut at {cut}: {reply}"
        elif b"\0" in end:
            assert (reply.code, reply.text[:4]) == (550, "5.6."), f"cut at {cut}: {reply}"
        else:
            assert (reply.code, reply.text[:6]) == (550, "5.6.11"), f"cut at {cut}: {reply}"
        # No part of the mail was executed as a command, and the connection goes on.
        assert wire.reply().code == 221
        assert wire.rest() == b""

    octets = content + b".\r\nQUIT\r\n"
    cuts = range(1, len(octets) - 6)
    send_split(relay.port, octets, cuts, lambda wire: wire.begin(), check)
    mails = relay.mails()
    assert len(mails) == (len(cuts) if taken else 0)
    expected = mended(content)
    for mail in mails:
        assert strip_added_fields(mail) == expected
        assert b"\r" not in mail.replace(b"\r\n", b"")
        assert b"\n" not in mail.replace(b"\r\n", b"")


@pytest.mark.parametrize("ending", [b"\n.\r\n", b"\r\n.\n", b"\r.\r\n"])
def test_the_true_end_after_a_false_one(relay: Relay, ending: bytes) -> None:
    """A false end at the very end of the mail leaves the client without a reply, because the server
    still reads on."""
    with Wire(relay.port) as wire:
        wire.begin()
        wire.send(b"Subject: x\r\n\r\ny" + ending)
        assert wire.silent(seconds=0.3)
        wire.send(b"\r\n.\r\n")
        assert wire.reply().code == 250


@pytest.mark.parametrize(
    "mail",
    [
        b".\r\n",
        b"..\r\n",
        b".a: b\r\n\r\n.c\r\n",
        b"a: b\r\n\r\n.\r\n..\r\n...\r\n.x\r\n",
        b"a: b\r\n\r\n" + b".\r\n" * 500,
        b"a: b\r\n\r\n\r\n.\r\n\r\n",
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"body only\r\n",
        b" starts with a blank\r\n",
        b"a: b\r\n",
        b"a: b\r\n\r\n",
    ],
)
def test_dots_and_emptiness(relay: Relay, mail: bytes) -> None:
    octets = stuffed(mail)
    send_split(
        relay.port,
        octets,
        range(min(len(octets), 60)),
        lambda wire: wire.begin(),
        lambda wire, cut: _taken(wire),
    )
    assert {strip_added_fields(stored) for stored in relay.mails()} == {below(mail)}


def _taken(wire: Wire) -> None:
    reply = wire.reply()
    assert reply.code == 250, reply


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"a: b\n\nbody\n", b"a: b\r\n\r\nbody\r\n"),
        (b"a: b\r\n\r\none\rtwo\r\n", b"a: b\r\n\r\none two\r\n"),
        (b"a: b\r\n\r\none\n\ntwo\r\r\n", b"a: b\r\n\r\none\r\n\r\ntwo \r\n"),
        (b"a: b\n.c: d\n\n.e\r\n", b"a: b\r\n.c: d\r\n\r\n.e\r\n"),
    ],
)
def test_bare_newlines_are_normalized(relay: Relay, sent: bytes, stored: bytes) -> None:
    assert mended(sent) == stored
    octets = sent + (b"" if sent.endswith(b"\r\n") else b"\r\n") + b".\r\n"
    expected = mended(octets[:-3])
    send_split(
        relay.port, octets, range(len(octets)), lambda wire: wire.begin(), lambda wire, _: _taken(wire)
    )
    assert {strip_added_fields(mail) for mail in relay.mails()} == {expected}


@pytest.mark.parametrize("mail", [b"a: b\r\n\r\n\0\r\n", b"\0a: b\r\n\r\nx\r\n", b"a\0: b\r\n\r\nx\r\n"])
def test_nul_is_refused_and_the_connection_goes_on(relay: Relay, mail: bytes) -> None:
    with Wire(relay.port) as wire:
        wire.begin()
        wire.send(stuffed(mail))
        reply = wire.reply()
        assert (reply.code, reply.text[:4]) == (550, "5.6."), reply
        wire.envelope()
        wire.send(b"a: b\r\n.\r\n")
        _taken(wire)
    assert len(relay.mails()) == 1


class TestSize:
    def test_declared(self, relay_for: Callable[..., Relay]) -> None:
        relay = relay_for(size=20_000)
        with Wire(relay.port) as wire:
            assert "SIZE 20000" in wire.greet().lines
            reply = wire.command("MAIL FROM:<a@client.example> SIZE=20001")
            assert (reply.code, reply.text[:5]) == (552, "5.3.4")
            assert wire.command("MAIL FROM:<a@client.example> SIZE=20000").code == 250

    @pytest.mark.parametrize("size", [20_001, 70_000])
    @pytest.mark.parametrize("chunks", [None, 1400])
    def test_while_streaming(self, relay_for: Callable[..., Relay], size: int, chunks: int | None) -> None:
        relay = relay_for(size=20_000)
        head = b"a: b\r\n\r\n"
        line = b"x" * 76 + b"\r\n"
        body = (line * (size // 78 + 1))[: size - len(head) - 2] + b"\r\n"
        assert len(head + body) == size
        with Wire(relay.port) as wire:
            wire.greet()
            wire.envelope()
            wire.send(stuffed(head + body), chunks=chunks)
            reply = wire.reply()
            assert (reply.code, reply.text[:5]) == (552, "5.3.4"), reply
            wire.envelope()
            wire.send(stuffed(head + body[:19_000].rpartition(b"\r\n")[0] + b"\r\n"))
            _taken(wire)
        assert len(relay.mails()) == 1

    def test_exactly_the_limit(self, relay_for: Callable[..., Relay]) -> None:
        relay = relay_for(size=20_000)
        mail = b"a: b\r\n\r\n" + b"." * 2 + b"x" * 988 + b"\r\n" + (b"y" * 98 + b"\r\n") * 190
        assert len(mail) == 20_000
        assert submit(relay.port, mail).code == 250
        assert strip_added_fields(relay.mails()[0]) == mail

    def test_a_flood_is_cut_off(self, relay_for: Callable[..., Relay]) -> None:
        """A client that goes on for ever is dropped, and memory stays flat meanwhile."""
        relay = relay_for(size=20_000)
        relay.reset_peak()
        before = relay.peak()
        sent = 0
        with Wire(relay.port) as wire:
            wire.begin()
            line = b"x" * 998 + b"\r\n"
            try:
                while sent < 100_000_000:
                    wire.send(line * 100)
                    sent += len(line) * 100
            except OSError:
                pass
            else:
                pytest.fail("100 MB went through a limit of 20 KB")
        assert relay.peak() - before < 8_000_000


class TestLines:
    @pytest.mark.parametrize("length", [998, 1000, 1001, 8192, 65_534])
    @pytest.mark.parametrize("chunks", [None, 4096])
    def test_long_ones_are_taken(self, relay: Relay, length: int, chunks: int | None) -> None:
        mail = b"a: b\r\n\r\n" + b"x" * length + b"\r\nend\r\n"
        with Wire(relay.port) as wire:
            wire.begin()
            wire.send(stuffed(mail), chunks=chunks)
            _taken(wire)
        assert strip_added_fields(relay.mails()[0]) == mail

    @pytest.mark.parametrize("length", [65_535, 65_536, 200_000])
    @pytest.mark.parametrize("chunks", [None, 4096, 65_537])
    @pytest.mark.parametrize("before", [b"a: b\r\n\r\n", b"a: ", b"a: b\r\n\r\nline\r\n" * 3])
    def test_longer_ones_are_refused(
        self, relay: Relay, length: int, chunks: int | None, before: bytes
    ) -> None:
        with Wire(relay.port) as wire:
            wire.begin()
            wire.send(before + b"x" * length + b"\r\nend\r\n.\r\n", chunks=chunks)
            reply = wire.reply()
            assert reply.code in (500, 550, 552, 554), reply
            assert reply.text.startswith("5."), reply
            assert wire.command("NOOP").code == 250
        assert relay.mails() == []

    def test_the_limit_can_be_set(self, relay_for: Callable[..., Relay]) -> None:
        relay = relay_for(maxLineLength=1000)
        assert submit(relay.port, b"a: b\r\n\r\n" + b"x" * 998 + b"\r\n").code == 250
        assert submit(relay.port, b"a: b\r\n\r\n" + b"x" * 999 + b"\r\n").code >= 500


class TestHeader:
    def test_hundred_received_fields_are_a_loop(self, relay: Relay) -> None:
        field = b"Received: from a by b; Mon, 5 Jan 2026 10:00:00 +0000\r\n"
        reply = submit(relay.port, field * 100 + b"\r\nx\r\n")
        assert (reply.code, reply.text[:5]) == (554, "5.4.6"), reply
        assert submit(relay.port, field.replace(b"Rec", b"reC") * 99 + b"\r\n" + field).code == 250

    def test_a_huge_header_is_refused(self, relay: Relay) -> None:
        relay.reset_peak()
        before = relay.peak()
        reply = submit(relay.port, b"a: b\r\n" * 400_000 + b"\r\nx\r\n")
        assert (reply.code, reply.text[:5]) == (552, "5.3.4"), reply
        assert relay.peak() - before < 12_000_000

    def test_a_header_just_below_the_limit(self, relay: Relay) -> None:
        mail = b"a: " + b"b" * 995 + b"\r\n"
        mail = mail * 1000 + b"\r\nx\r\n"
        assert submit(relay.port, mail).code == 250
        assert strip_added_fields(relay.mails()[0]) == mail

    def test_no_field_is_added_when_told_so(self, relay_for: Callable[..., Relay]) -> None:
        relay = relay_for({"mailHeaders": {}}, received=False)
        mail = b"a: b\r\n\r\nx\r\n"
        assert submit(relay.port, mail).code == 250
        assert relay.mails() == [mail]

    def test_edits(self, relay_for: Callable[..., Relay]) -> None:
        edits = {"X-Env": "test", "-Bcc": "", "-x-secret": None, "?Date": "Mon, 5 Jan 2026 10:00:00 +0000"}
        relay = relay_for({"mailHeaders": edits}, received=False)
        head = b"Subject: s\r\nBCC: a@b.example,\r\n\tc@d.example\r\nTo: x\r\nX-Secret : 1\r\n"
        mail = head + b"\r\nBcc: in the body\r\n"
        octets = stuffed(mail)
        send_split(
            relay.port, octets, range(len(octets)), lambda wire: wire.begin(), lambda wire, _: _taken(wire)
        )
        expected = (
            b"X-Env: test\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n"
            b"Subject: s\r\nTo: x\r\n\r\nBcc: in the body\r\n"
        )
        assert set(relay.mails()) == {expected}
