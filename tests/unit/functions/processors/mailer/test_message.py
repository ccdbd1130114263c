"""The mailer sends the stored mail: byte for byte, except for configured changes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from functions.errors import Permanent, Temporary
from functions.message.canon import RelaxedBody
from functions.message.headers import split_head
from functions.message.mail import FileContent, Mail
from functions.processors.mailer import message as mailer_letter
from functions.processors.mailer.dkim import Signer
from functions.processors.mailer.message import OutgoingMessage
from tests.support.clients.relaying import MAIL, make_mail
from tests.support.mails.signer import rsa_key


def same(head: bytes) -> bytes:
    return head


def nobody(head: bytes) -> None:
    return None


def content(letter: OutgoingMessage) -> bytes:
    pieces = list(letter.chunks())
    assert b"".join(letter.chunks()) == b"".join(pieces), "the second reading differs"
    assert sum(map(len, pieces)) == letter.size
    return b"".join(pieces)


ODD = [
    MAIL,
    b"",
    b"\r\n",
    b"\r\nbody\r\n",
    b"no header at all\r\n\r\nno\r\n",
    b"Only: header\r\n",
    b"Only: header\r\n\r\n",
    b"A: b\r\n\r\n\r\n\r\n",
    b"A: b\r\n" * 10_000 + b"\r\n" + b"x" * 300_000 + b"\r\n",
    "Subject: é\r\n\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
    b"A: b\r\nnot a field\r\nC: d\r\n\r\nx\r\n",
]


@pytest.mark.parametrize("mail", ODD)
def test_unchanged(mail: bytes) -> None:
    letter = OutgoingMessage(make_mail(mail), "f", same, nobody)
    assert content(letter) == mail
    assert letter.eight_bit == (not mail.isascii())


@pytest.mark.parametrize("mail", ODD)
@pytest.mark.parametrize("piece", [1, 2, 7, 262_144])
def test_signed_on_top(mail: bytes, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.message.mail.CHUNK", max(piece, len(mail) // 1_000))
    seen: list[tuple[bytes, bytes]] = []

    class Spy(Signer):
        def sign(self, head: bytes, body_hash: bytes, now: int) -> bytes:
            seen.append((head, body_hash))
            return b"DKIM-Signature: x\r\n"

    signer = Spy("client.example", "s", rsa_key())
    made = content(OutgoingMessage(make_mail(mail), "f", same, lambda head: signer))
    head, rest = split_head(mail)
    gap = b"" if head or rest.startswith(b"\r\n") else b"\r\n"
    assert made == b"DKIM-Signature: x\r\n" + gap + mail
    body = RelaxedBody()
    body.feed((gap + rest)[2:])
    assert seen == [(head, body.digest())]


def test_fields_of_the_flow_and_edits() -> None:
    mail = make_mail(MAIL, headers=(("Authentication-Results", "x; spf=pass"),))
    letter = OutgoingMessage(mail, "f", lambda head: b"X: y\r\n" + head, nobody)
    assert content(letter) == b"X: y\r\nAuthentication-Results: x; spf=pass\r\n" + MAIL


@pytest.mark.parametrize(
    ("mail", "sent"),
    [
        (b"A: b\r\n\r\nx", b"A: b\r\n\r\nx\r\n"),
        (b"A: b\n\nx\n.\ny\n", b"A: b\r\n\r\nx\r\n.\r\ny\r\n"),
        (b"A: b\r\n\r\nx\n.\r\nMAIL\r.\r\n", b"A: b\r\n\r\nx\r\n.\r\nMAIL .\r\n"),
        (b"A: b\r\n\r\nx\r\n.\r", b"A: b\r\n\r\nx\r\n. \r\n"),
    ],
)
def test_no_bare_cr_or_lf_goes_out(mail: bytes, sent: bytes) -> None:
    """The listener accepts none; if one were stored all the same, nothing is smuggled with it."""
    assert content(OutgoingMessage(make_mail(mail), "f", same, nobody)) == sent


def test_eight_bit() -> None:
    head = OutgoingMessage(make_mail("Subject: é\r\n\r\nx\r\n".encode()), "f", same, nobody)
    assert (head.eight_bit, head.eight_bit_head) == (True, True)
    body = OutgoingMessage(make_mail("Subject: e\r\n\r\né\r\n".encode()), "f", same, nobody)
    assert (body.eight_bit, body.eight_bit_head) == (True, False)


def test_a_large_mail_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "large.eml"
    path.write_bytes(MAIL + b"0123456789 .\r\n" * 2_000_000)
    envelope = make_mail().envelope.model_copy(update={"size": path.stat().st_size})
    mail = Mail(envelope, FileContent(path, envelope.size))
    signer = Signer("client.example", "s", rsa_key())
    tracemalloc.start()
    letter = OutgoingMessage(mail, "f", same, lambda head: signer)
    sent = sum(len(piece) for piece in letter.chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent == letter.size > 28_000_000
    assert peak < 6_000_000


def test_a_header_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailer_letter, "MAX_HEAD", 1_000)
    with pytest.raises(Permanent, match="larger than 1000 bytes") as caught:
        OutgoingMessage(make_mail(b"A: b\r\n" * 1_000), "f", same, nobody)
    assert caught.value.enhanced == "5.3.4"


def test_a_mail_that_cannot_be_read(tmp_path: Path) -> None:
    mail: Any = Mail(make_mail().envelope, FileContent(tmp_path / "gone", 1))
    with pytest.raises(Temporary, match="No such file"):
        OutgoingMessage(mail, "f", same, nobody)
