"""Signed mails as they arrive: independent software verifies the signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from listener.cli.arguments import write_new
from listener.cli.dkim_generate import DkimKey, generate_ed25519, generate_rsa
from tests.support.clients.wire import submit
from tests.support.mails.stored import strip_added_fields
from tests.support.mails.verifiers import VERIFIERS, Verifier
from tests.support.net import HOST, wait_until
from tests.support.servers.receivers import Receiver, receiver
from tests.support.servers.relay import Relay

HEAD: Final = (
    b"Message-ID: <one@rsa.example>\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n"
    b"From: =?utf-8?q?=C3=84nne?= <anne@%s>\r\n"
    b"To: Bob <bob@server.example>,\r\n\tCarl <carl@server.example>\r\n"
    b"Subject: dots \r\n\tand   folds\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)
BODIES: Final = {
    "plain": b"hello\r\n",
    "8-bit": "déjà  vu \t \r\n.\r\n..\r\n\r\n \r\n\r\n".encode(),
    "5 MB": b"\t odd   blanks \xc3\xa4\t\r\n. and dots\r\n\r\n" * 130_000 + b"\r\n \r\n",
    "empty": b"",
}
DOMAINS: Final = ("rsa.example", "ed25519.example")


@pytest.fixture(scope="module")
def keys() -> dict[str, DkimKey]:
    """As `dkim-generate` makes them."""
    return {"rsa.example": generate_rsa(2048), "ed25519.example": generate_ed25519()}


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def relay(
    new_relay: Callable[..., Relay], keys: dict[str, DkimKey], server: Receiver, tmp_path: Path
) -> Relay:
    """Signs for both domains, one key from a file and one from the environment."""
    write_new(tmp_path / "rsa.pem", keys["rsa.example"].private, 0o600)
    dkims = {
        "rsa.example": {"keySelector": "sel", "privateKey": f"file://{tmp_path}/rsa.pem"},
        "ed25519.example": {"keySelector": "sel", "privateKey": "env:ED25519_KEY"},
    }
    output = {"type": "mailer", "nodemailer": {"host": HOST, "port": server.port}, "dkims": dkims}
    flows = {"out": {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [output]}}
    made: Relay = new_relay({"flows": flows}, env={"ED25519_KEY": keys["ed25519.example"].private})
    return made.start()


def test_signatures_are_good(
    relay: Relay, server: Receiver, keys: dict[str, DkimKey], tmp_path: Path
) -> None:
    records = {f"sel._domainkey.{domain}": key.record for domain, key in keys.items()}
    for domain in DOMAINS:
        for name, body in BODIES.items():
            mail = HEAD % domain.encode() + body
            signed = forwarded(relay, server, mail)
            assert strip_added_fields(signed[signed.index(b"x-smtp-relay:") :]) == mail
            for verify in VERIFIERS:
                assert verify(signed, records, tmp_path) == [domain], (verify.__name__, domain, name)
    assert relay.stop() == 0


@pytest.mark.parametrize(
    ("author", "signer"),
    [
        (b"=?utf-8?Q?Support@rsa.example,_John?= <john@ed25519.example>", "ed25519.example"),
        (b"=?utf-8?q?<a@rsa.example>;?= <john@ed25519.example>", "ed25519.example"),
        (b"<@rsa.example:john@ed25519.example>", "ed25519.example"),
        (b"john@ed25519.example (a@rsa.example), a@rsa.example", "ed25519.example"),
    ],
)
def test_a_display_name_chooses_no_key(
    relay: Relay, server: Receiver, keys: dict[str, DkimKey], tmp_path: Path, author: bytes, signer: str
) -> None:
    records = {f"sel._domainkey.{domain}": key.record for domain, key in keys.items()}
    signed = forwarded(relay, server, b"From: " + author + b"\r\nSubject: x\r\n\r\nhello\r\n")
    for verify in VERIFIERS:
        assert verify(signed, records, tmp_path) == [signer], verify.__name__


@pytest.mark.parametrize("verify", VERIFIERS)
def test_the_judges_see_forgeries(
    relay: Relay, server: Receiver, keys: dict[str, DkimKey], tmp_path: Path, verify: Verifier
) -> None:
    """Otherwise the test above would prove nothing."""
    records = {f"sel._domainkey.{domain}": key.record for domain, key in keys.items()}
    for domain in DOMAINS:
        signed = forwarded(relay, server, HEAD % domain.encode() + b"pay me\r\n")
        for old, new in (
            (b"pay me", b"pay you"),
            (b"\r\nTo: Bob", b"\r\nTo: Eve"),
            (b"\r\nSubject:", b"\r\nFrom: eve@elsewhere.example\r\nSubject:"),
            (b"\r\nSubject:", b"\r\nReply-To: eve@elsewhere.example\r\nSubject:"),
        ):
            assert verify(signed.replace(old, new), records, tmp_path) == []
        swapped = dict(zip(records, reversed(records.values()), strict=True))
        assert verify(signed, swapped, tmp_path) == []


def test_others_are_sent_unsigned(relay: Relay, server: Receiver) -> None:
    mail = HEAD % b"elsewhere.example" + b"x\r\n"
    assert strip_added_fields(forwarded(relay, server, mail)) == mail


def forwarded(relay: Relay, server: Receiver, mail: bytes) -> bytes:
    """The mail as the server got it."""
    before = len(server.received)
    assert submit(relay.port, mail, "bounces@client.example", "bob@server.example").code == 250
    wait_until(lambda: len(server.received) > before, seconds=30, what="the mail")
    return server.received[before].content
