"""Signatures: dkimpy verifies them, and sealed fields stay sealed."""

from __future__ import annotations

import base64
import re
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.message.canon import RelaxedBody
from functions.message.headers import split_head
from functions.processors.mailer.dkim import MOST, Signer, load_key, select
from tests.support.mails.signer import ed25519_key, record, rsa_key
from tests.support.programs import program, run

MAIL = (
    b"Received: from x by y; Mon, 5 Jan 2026 10:00:00 +0000\r\n"
    b"From: Ann <ann@client.example>\r\nTo: bob@server.example,\r\n carl@server.example\r\n"
    b"Subject:  a   b\r\n\tc\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\nMessage-ID: <1@client.example>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    b"hello \t there  \r\n\r\n" + "déjà vu\r\n".encode() + b"\r\n\r\n"
)


def pem(key: Any, how: Any = None, form: Any = PrivateFormat.PKCS8) -> str:
    return str(key.private_bytes(Encoding.PEM, form, how or NoEncryption()).decode())


def signed(mail: bytes, key: Any = None) -> bytes:
    head, rest = split_head(mail)
    body = RelaxedBody()
    body.feed(rest[2:])
    signer = Signer("client.example", "sel", key or rsa_key())
    return signer.sign(head, body.digest(), 1_767_600_000) + mail


def verifies(mail: bytes, key: Any = None) -> bool:
    def ask(name: bytes, **_: Any) -> bytes | None:
        found = record(key or rsa_key()).encode()
        return found if name == b"sel._domainkey.client.example." else None

    try:
        return bool(dkim.DKIM(mail).verify(dnsfunc=ask))
    except dkim.ValidationError:
        return False


@pytest.mark.parametrize("key", [rsa_key(), rsa_key(1024)], ids=["2048", "1024"])
def test_dkimpy_verifies(key: Any) -> None:
    assert verifies(signed(MAIL, key), key)


def test_ed25519_by_the_standard() -> None:
    """RFC 8463 section 3: Ed25519 over the SHA-256 of the canonical header. dkimpy has no Ed25519
    here; the end-to-end tests let others verify."""
    mail = signed(MAIL, ed25519_key())
    field = mail[: mail.index(b"Received:")]
    assert b"a=ed25519-sha256;" in field
    assert len(base64.b64decode(b"".join(field.rpartition(b" b=")[2].split()))) == 64


@pytest.mark.parametrize(
    "change",
    [
        (b"hello", b"hallo"),
        (b"a   b", b"a   d"),
        (b"ann@client", b"eve@client"),
        (b"Subject:", b"Subject: another\r\nSubject:"),
        (b"From:", b"From: eve@client.example\r\nFrom:"),
        (b"Date:", b"Reply-To: eve@client.example\r\nDate:"),
        (b"Date:", b"Cc: eve@client.example\r\nDate:"),
        (b"MIME-V", b"Content-Type: text/html\r\nMIME-V"),
    ],
)
def test_changes_show(change: tuple[bytes, bytes]) -> None:
    mail = signed(MAIL)
    at = mail.index(b"Received:")
    changed = mail[:at] + mail[at:].replace(*change, 1)
    assert changed != mail
    assert not verifies(changed)


@pytest.mark.parametrize(
    "change",
    [
        (b"Received:", b"Received: from a later relay\r\nReceived:"),
        (b"Received:", b"Sender: list@server.example\r\nReceived:"),
        (b"Subject:  a   b\r\n\tc", b"SUBJECT: a b c"),
        (b" \t there  ", b" there"),
    ],
)
def test_changes_on_the_way_that_are_borne(change: tuple[bytes, bytes]) -> None:
    assert verifies(signed(MAIL).replace(*change, 1))


FIELD = st.tuples(
    st.sampled_from([b"From", b"to", b"Subject", b"X-Other", b"List-Id", b"received", b"Content-Type"]),
    st.lists(st.sampled_from([b" ", b"a", b"\t", b"\r\n ", b"\xc3\xa9", b":"]), max_size=8).map(b"".join),
)


@settings(max_examples=50)
@given(st.lists(FIELD, max_size=12), st.binary(max_size=200))
def test_any_mail_verifies(fields: list[tuple[bytes, bytes]], body: bytes) -> None:
    head = b"From: a@client.example\r\n" + b"".join(
        # A folded line of blanks only does not occur in mail: dkimpy and others take it for the
        # header's end.
        name + b":" + re.sub(rb"\r\n[ \t]*(?=\r\n|\Z)", b"", b" x" + value) + b"\r\n"
        for name, value in fields
    )
    text = body.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    assert verifies(signed(head + b"\r\n" + text))


def test_the_lowest_fields_are_signed_first() -> None:
    names, canonical = select(b"To: 1\r\nTo: 2\r\nFrom: a\r\nX: y\r\n")
    assert names[:5] == [b"from", b"from", b"to", b"to", b"to"]
    assert canonical == [b"from:a", b"to:2", b"to:1"]


def test_a_thousand_fields_of_a_name_are_no_thousand_names() -> None:
    names, canonical = select(b"To: a\r\n" * 1_000)
    assert names.count(b"to") == MOST == len(canonical)


def test_the_field_is_folded() -> None:
    key = rsa_key()
    field = Signer("client.example", "sel", key).sign(MAIL, b"x" * 32, 0)
    assert field.endswith(b"\r\n")
    assert all(len(line) <= 78 for line in field.split(b"\r\n"))
    assert not any(line.strip() == b"" for line in field.split(b"\r\n")[:-1])


class TestKeys:
    def test_forms(self) -> None:
        key = rsa_key()
        for text in (
            pem(key),
            pem(key, form=PrivateFormat.TraditionalOpenSSL),
            pem(key).replace("\n", "\\n"),
            f"\n{pem(key)}\n",
        ):
            assert pem(load_key(text)) == pem(key)
        assert pem(load_key(pem(ed25519_key()))) == pem(ed25519_key())

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("nonsense", "not a private key"),
            (pem(ec.generate_private_key(ec.SECP256R1())), "neither an RSA nor an Ed25519"),
            (pem(ed25519_key(), BestAvailableEncryption(b"x")), "encrypted"),
        ],
        ids=("nonsense", "elliptic", "encrypted"),
    )
    def test_refused(self, text: str, says: str) -> None:
        with pytest.raises(ValueError, match=says) as caught:
            load_key(text)
        assert text not in str(caught.value)

    def test_short_rsa_keys_are_refused(self) -> None:
        """RFC 8301 section 3.2."""
        short = run([program("openssl", "openssl"), "genrsa", "768"]).stdout.decode()
        with pytest.raises(ValueError, match="768 bits"):
            load_key(short)
