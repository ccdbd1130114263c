"""Attacks through the mail itself: false ends in every split, huge headers and lines, clients that
leave before the answer. test_attacks.py lists the checks around each."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

import pytest

from tests.support.clients.attack import MEGABYTE, attack
from tests.support.clients.tls import starttls
from tests.support.clients.wire import Wire, submit
from tests.support.mails.stored import mended, strip_added_fields
from tests.support.net import wait_until
from tests.support.servers.relay import Relay

Make = Callable[..., Relay]

FALSE_ENDS: Final = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CR": b"\r\n.\r",
    "CR.LF": b"\r.\n",
    "CRLF-NUL.CRLF": b"\r\n\0.\r\n",
}

HEAD: Final = b"Subject: first\r\n\r\none"
SMUGGLED: Final = (
    b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@y.example>\r\nDATA\r\nSubject: no\r\n\r\nx\r\n"
)
BATCH: Final = 80


@pytest.mark.parametrize("end", FALSE_ENDS.values(), ids=FALSE_ENDS)
@pytest.mark.parametrize("mode", ["normalize", "refuse"])
@pytest.mark.parametrize("secure", [False, True], ids=["", "TLS"])
def test_false_ends_in_three_pieces(relay_for: Make, end: bytes, mode: str, secure: bool) -> None:
    """test_dialogue_data.py cuts in two at every place of the mail; here in three, at every two places
    in and around the false end, and byte by byte. There is never a second mail."""
    relay = relay_for(bareNewline=mode)
    octets = HEAD + end + SMUGGLED + b".\r\nQUIT\r\n"
    first, last = len(HEAD) - 2, len(HEAD + end) + 2
    splits: list[Sequence[int]] = list(itertools.combinations(range(first, last), 2))
    splits.append(range(1, len(octets)))
    if secure:
        splits = splits[:: max(1, len(splits) // 12)]
    taken = mode == "normalize" and b"\0" not in end
    with attack(relay, seconds=60):
        relay.forget()
        for batch in (splits[at : at + BATCH] for at in range(0, len(splits), BATCH)):
            codes = _sent(relay, octets, batch, secure=secure)
            assert codes == [[250 if taken else 550, 221]] * len(batch)
        mails = relay.mails()
        relay.forget()
    assert len(mails) == (len(splits) if taken else 0)
    for mail in mails:
        assert strip_added_fields(mail) == mended(HEAD + end + SMUGGLED)
        assert set(mail.replace(b"\r\n", b"")).isdisjoint(b"\r\n")


def _sent(relay: Relay, octets: bytes, batch: Sequence[Sequence[int]], *, secure: bool) -> list[list[int]]:
    """Each split over a connection of its own; returns the codes of each."""
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(relay.port)) for _ in batch]
        for wire in wires:
            wire.greet()
            if secure:
                starttls(wire)
                wire.command("EHLO client.example")
            wire.envelope()
        pieces = [
            [octets[start:end] for start, end in itertools.pairwise((0, *cuts, len(octets)))]
            for cuts in batch
        ]
        for turn in range(max(map(len, pieces))):
            for wire, parts in zip(wires, pieces, strict=True):
                if turn < len(parts):
                    wire.send(parts[turn])
            time.sleep(0.01 if turn < 3 else 0.0005)
        return [[int(line[:3]) for line in wire.rest().decode().splitlines()] for wire in wires]


def test_a_hundred_thousand_header_lines(relay_for: Make) -> None:
    relay = relay_for()
    mail = b"a: b\r\n" * 100_000 + b"\r\nx\r\n"
    with attack(relay, octets=12 * MEGABYTE):
        assert submit(relay.port, mail).code == 250
    assert strip_added_fields(max(relay.mails(), key=len)) == mail


@pytest.mark.parametrize(
    "line", [b"X-Field-%d: value\r\n", b"a: b\r\n c\r\n", b":\r\n", b"Received: x\r\n", b"\xff\xfe: \xff\r\n"]
)
def test_a_header_of_a_million_lines(relay_for: Make, line: bytes) -> None:
    relay = relay_for()
    head = line * 1_000_000 if b"%d" not in line else b"".join(line % number for number in range(300_000))
    with attack(relay, octets=12 * MEGABYTE, seconds=20):
        reply = submit(relay.port, head + b"\r\nx\r\n")
        # A line that is not a header field begins the body, which may be long.
        field = line[:1].isalpha()
        assert reply.code in ((552, 554) if field else (250,)), reply


def test_one_line_of_fifty_megabytes(relay_for: Make) -> None:
    relay = relay_for(size=100 * MEGABYTE)
    with attack(relay, seconds=30), Wire(relay.port) as wire:
        wire.begin()
        wire.send(b"a: b\r\n\r\n")
        for _ in range(50):
            wire.send(b"x" * MEGABYTE)
        wire.send(b"\r\n.\r\n")
        reply = wire.reply()
        assert (reply.code, reply.text[:5]) == (550, "5.6.0"), reply
        wire.envelope()
        wire.send(b"a: b\r\n.\r\n")
        assert wire.reply().code == 250, "the connection stays usable"


@pytest.mark.parametrize("what", [b"\0", b"x", b"\r", b"\n", b".", b"\r\n", b"\r\n.."])
def test_more_than_the_size_of_the_same(relay_for: Make, what: bytes) -> None:
    """Far over the limit: refused or cut off, in bounded memory."""
    relay = relay_for(size=MEGABYTE)
    with attack(relay, seconds=30), Wire(relay.port) as wire:
        wire.begin()
        piece = what * (MEGABYTE // len(what))
        with contextlib.suppress(OSError):
            for _ in range(10):
                wire.send(piece)
            wire.send(b"\r\n.\r\n")
        assert wire.reply().code in (550, 552, 421)


def test_a_hundred_mails_at_once_that_never_end(relay_for: Make) -> None:
    """Half mails of 60 KB in memory and of 1 MB in files, all open at the same time."""
    relay = relay_for()
    with attack(relay, octets=20 * MEGABYTE, seconds=30), contextlib.ExitStack() as stack:
        for number in range(100):
            wire = stack.enter_context(Wire(relay.port))
            wire.begin()
            wire.send(b"a: b\r\n\r\n" + b"x" * 76 + b"\r\n" * (750 if number % 2 else 20_000))


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("size", [10, 100_000])
def test_gone_between_the_final_dot_and_the_answer(relay_for: Make, how: str, size: int) -> None:
    """The mail is complete: it is delivered exactly once, whether or not its client saw 250."""
    relay = relay_for()
    with attack(relay, seconds=30):
        relay.forget()
        for number in range(30):
            with Wire(relay.port) as wire:
                wire.begin()
                wire.send(b"Subject: %d\r\n\r\n" % number + (b"x" * 8 + b"\r\n") * (size // 10) + b".\r\n")
                if how == "reset":
                    # Bytes that the server has not read by then may be lost with the connection.
                    wire.silent(seconds=0.1)
                    reset(wire)
                elif how == "half-close":
                    wire.socket.shutdown(socket.SHUT_WR)
                    assert wire.rest().startswith(b"250 ")
        wait_until(lambda: len(relay.files()) >= 30, seconds=10, what="all mails")
        time.sleep(0.2)
        subjects = [mail.partition(b"Subject: ")[2].partition(b"\r\n")[0] for mail in relay.mails()]
        relay.forget()
    assert sorted(map(int, subjects)) == list(range(30))


def reset(wire: Wire) -> None:
    """Close with a reset instead of an orderly end."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.socket.close()
