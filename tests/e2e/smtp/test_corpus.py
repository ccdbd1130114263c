"""Real and nasty mails arrive byte for byte below the relay's fields, however they are cut.

The corpus is the sample mails of CPython's own email tests, of mail-parser's and of enmime's, and mails
that no mail client writes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.support.clients.splits import send_split
from tests.support.clients.wire import Wire, stuffed
from tests.support.mails.stored import below, crlf_ended, mended, strip_added_fields
from tests.support.programs import corpus
from tests.support.servers.relay import Relay

_NOISE: Final = random.Random(5321)


def _nasty() -> Iterator[tuple[str, bytes]]:
    head = b"From: a@client.example\r\nSubject: x\r\n\r\n"
    everything = bytes(octet for octet in range(1, 256) if octet not in b"\r\n")
    yield "8bit", head + everything * 4 + b"\r\n"
    yield "8bit-header", b"Subject: " + everything[8:31] + everything[32:] + b"\r\n\r\nx\r\n"
    yield "998", head + b"x" * 998 + b"\r\n"
    yield "999", head + b"x" * 999 + b"\r\n" + b"y" * 4000 + b"\r\n"
    yield "64k-line", head + b"z" * 65_534 + b"\r\nend\r\n"
    yield "long-header-line", b"Subject: " + b"s" * 20_000 + b"\r\n\r\nx\r\n"
    yield "dots", head + b"".join(b"." * (n % 5) + b"dot\r\n" for n in range(200)) + b".\r\n" * 50
    yield "dot-header", b".a: b\r\n..c: d\r\n\r\n.\r\n"
    yield "empty", b""
    yield "empty-body", b"Subject: x\r\n\r\n"
    yield "header-only", b"Subject: x\r\n"
    yield "no-header", b"just a line\r\nand another\r\n"
    yield "no-header-colon", b"this is not: a header\r\n\r\nx\r\n"
    yield "blank-first", b"\r\nbody without a header\r\n"
    yield "continuation-first", b" continued from nowhere\r\nA: b\r\n\r\nx\r\n"
    yield "unix-from", b"From a@client.example Mon Jan  5 10:00:00 2026\r\nA: b\r\n\r\nx\r\n"
    yield "folded", b"Subject: one\r\n two\r\n\tthree\r\n \r\nA: b\r\n\r\nx\r\n"
    yield "colons", b"A:\r\nB :x\r\n:\r\n\r\nx\r\n"
    yield "broken-mime", b'Content-Type: multipart/mixed; boundary="x\r\n\r\n--x\r\n--x\r\n--y--\r\n'
    yield "many-fields", b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(5000)) + b"\r\nx\r\n"
    yield (
        "many-parts",
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 20_000 + b"--b--\r\n"),
    )
    yield "ours-already", b"x-smtp-relay: 2.3\r\nReceived: from x by y; z\r\n\r\nx\r\n"
    yield "envelope-forged", b"X-SMTP-Relay-Envelope: e30=\r\nSubject: x\r\n\r\nx\r\n"
    yield "ends-in-blank-lines", head + b"x" + b"\r\n" * 20
    yield "crlf-only", b"\r\n" * 40
    yield "utf8", "Subject: déjà vu 日本語\r\n\r\nдоброе утро\r\n".encode()
    yield "64KiB-exactly", (head + b"v" * 70 + b"\r\n") + b"w" * (65_536 - len(head) - 74) + b"\r\n"
    yield "64KiB-and-one", (head + b"v" * 71 + b"\r\n") + b"w" * (65_536 - len(head) - 74) + b"\r\n"


NASTY: Final = dict(_nasty())
SMALL: Final = 1_500


def _sends(relay: Relay, mail: bytes, chunks: int | None) -> None:
    with Wire(relay.port) as wire:
        wire.begin()
        wire.send(stuffed(mail), chunks=chunks)
        reply = wire.reply()
        assert reply.code == 250, reply


def _arrived(relay: Relay, mail: bytes, times: int) -> None:
    stored = relay.mails()
    assert len(stored) == times
    expected = below(mail)
    for one in stored:
        assert strip_added_fields(one) == expected


@pytest.fixture(scope="module")
def samples() -> list[bytes]:
    mails = [crlf_ended(path.read_bytes()) for path in corpus()]
    return [mail for mail in mails if b"\0" not in mail]  # the relay refuses such a mail


def test_the_corpus_is_there(samples: list[bytes]) -> None:
    assert len(samples) >= 45 + 22 + 79


def test_samples_in_one_connection(relay: Relay, samples: list[bytes]) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        for mail in samples:
            wire.envelope()
            wire.send(stuffed(mail))
            assert wire.reply().code == 250
    stored = sorted(strip_added_fields(mail) for mail in relay.mails())
    assert stored == sorted(below(mail) for mail in samples)


@pytest.mark.parametrize("chunks", [1, 7, 61, 512])
def test_samples_in_pieces(relay: Relay, samples: list[bytes], chunks: int) -> None:
    """Each sample cut into pieces; the smaller the pieces, the fewer the samples."""
    chosen = [mail for mail in samples if len(mail) <= chunks * 400][:: max(1, 21 // chunks)]
    for mail in chosen:
        _sends(relay, mail, chunks)
    stored = sorted(strip_added_fields(mail) for mail in relay.mails())
    assert stored == sorted(below(mail) for mail in chosen)


def test_samples_cut_everywhere(relay: Relay, samples: list[bytes]) -> None:
    """Every small sample, cut in two at every byte."""
    small = sorted((mail for mail in samples if len(mail) < SMALL), key=len)[:8]
    assert small
    for mail in small:
        octets = stuffed(mail)
        cuts = range(len(octets))
        relay.forget()
        send_split(relay.port, octets, cuts, lambda wire: wire.begin(), _ok)
        _arrived(relay, mail, len(cuts))


def _ok(wire: Wire, cut: int) -> None:
    reply = wire.reply()
    assert reply.code == 250, f"cut at {cut}: {reply}"


@pytest.mark.parametrize("name", [name for name, mail in NASTY.items() if len(mail) < SMALL])
def test_nasty_cut_everywhere(relay: Relay, name: str) -> None:
    octets = stuffed(NASTY[name])
    cuts = range(len(octets))
    send_split(relay.port, octets, cuts, lambda wire: wire.begin(), _ok)
    _arrived(relay, NASTY[name], len(cuts))


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("chunks", [None, 997, 65_536])
def test_nasty_in_pieces(relay: Relay, name: str, chunks: int | None) -> None:
    _sends(relay, NASTY[name], chunks)
    _arrived(relay, NASTY[name], 1)


@pytest.mark.parametrize("seed", range(6))
def test_nasty_in_random_pieces(relay: Relay, seed: int) -> None:
    """Cuts close to line ends and dots, where a reader's state changes."""
    noise = random.Random(seed)
    for mail in NASTY.values():
        octets = stuffed(mail)
        places = [at for at in range(len(octets)) if octets[at] in b"\r\n."] or [0]
        chosen = {min(len(octets), noise.choice(places) + noise.randrange(3)) for _ in range(25)}
        with Wire(relay.port) as wire:
            wire.begin()
            wire.send(octets, chunks=sorted(chosen))
            assert wire.reply().code == 250
    stored = sorted(strip_added_fields(mail) for mail in relay.mails())
    assert stored == sorted(below(mail) for mail in NASTY.values())


@pytest.mark.parametrize(
    "octets",
    [
        b"Subject: x\n\nunix mail\n.\nnot the end\n",
        b"Subject: x\r\rmac mail\r",
        b"mixed\r\nends\nof\rlines\r\n\n\r\r\n",
        b"\n\n\n",
        b"A: b\r\n\r\n\r\r\r\r\n\n\n\n",
    ],
)
def test_bare_newlines_are_settled_at_every_cut(relay: Relay, octets: bytes) -> None:
    sent = octets + b"\r\n"
    cuts = range(len(sent) + 3)
    send_split(relay.port, sent + b".\r\n", cuts, lambda wire: wire.begin(), _ok)
    expected = below(mended(sent))
    stored = {strip_added_fields(mail) for mail in relay.mails()}
    assert stored == {expected}


@pytest.mark.parametrize("chunks", [None, 1_448, 65_536, 1_000_003])
def test_twenty_megabytes(relay: Relay, chunks: int | None) -> None:
    """Random bytes in lines, with dots; memory stays flat meanwhile."""
    line = bytes(octet for octet in _NOISE.randbytes(120) if octet not in b"\r\n\0")
    block = b"".join(b"." * (n % 3) + line[n % 50 :] + b"\r\n" for n in range(1000))
    mail = b"Subject: large\r\n\r\n" + block * (20_000_000 // len(block))
    relay.reset_peak()
    before = relay.peak()
    with Wire(relay.port, patience=60) as wire:
        wire.begin()
        octets = stuffed(mail)
        step = chunks or len(octets)
        for at in range(0, len(octets), step):
            wire.send(octets[at : at + step])
        assert wire.reply().code == 250
    assert relay.peak() - before < 8_000_000
    (file,) = relay.files()
    assert hashlib.sha256(strip_added_fields(file.read_bytes())).digest() == hashlib.sha256(mail).digest()


def test_eight_at_a_time(new_relay: Callable[..., Relay]) -> None:
    """Eight 20 MB mails come in at once, piece by piece in turn; memory stays bounded."""
    relay = new_relay().start()
    mail = b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 256_000
    octets = stuffed(mail)
    wires = [Wire(relay.port, patience=60) for _ in range(8)]
    for wire in wires:
        wire.begin()
    for at in range(0, len(octets), 262_144):
        for wire in wires:
            wire.send(octets[at : at + 262_144])
    for wire in wires:
        assert wire.reply().code == 250
        wire.socket.close()
    assert relay.peak() < 70_000_000
    assert [strip_added_fields(stored) == mail for stored in relay.mails()] == [True] * 8
