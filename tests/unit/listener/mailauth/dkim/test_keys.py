"""Key records (RFC 6376 section 3.6.1, RFC 8463, RFC 8301)."""

from __future__ import annotations

import base64
import contextlib
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from listener.mailauth.dkim import keys
from tests.support.mails.signer import ed25519_key, record, rsa_key


def test_defaults() -> None:
    key = keys.parse(f"p={record(rsa_key()).partition('p=')[2]}".encode())
    assert (key.kind, key.bits, key.hashes, key.testing, key.strict_identity) == (
        "rsa",
        2048,
        None,
        False,
        False,
    )


def test_flags_and_lists() -> None:
    key = keys.parse(
        record(rsa_key(), h=" sha1 : sha256", t="y : s", s="tlsrpt:email", n="hello", g="").encode()
    )
    assert key.hashes == {b"sha1", b"sha256"}
    assert key.testing
    assert key.strict_identity


def test_both_forms_of_rsa_keys() -> None:
    der = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert keys.parse(b"v=DKIM1; p=" + base64.b64encode(der)).bits == 2048
    folded = "\r\n ".join(record(rsa_key())[at : at + 60] for at in range(0, 420, 60))
    assert keys.parse(folded.encode()).bits == 2048


def test_ed25519() -> None:
    key = keys.parse(record(ed25519_key()).encode())
    assert (key.kind, key.bits) == ("ed25519", 256)


def of(p: bytes, kind: str = "rsa") -> bytes:
    return f"v=DKIM1; k={kind}; p={base64.b64encode(p).decode()}".encode()


EC = ec.generate_private_key(ec.SECP256R1()).public_key()
SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (record(rsa_key(), v="DKIM2"), "version"),
        (record(rsa_key(), v="dkim1"), "version"),
        ("k=rsa; v=DKIM1; p=" + record(rsa_key()).partition("p=")[2], "version"),
        (record(rsa_key(), s="tlsrpt"), "not for email"),
        (record(rsa_key(), s=""), "not for email"),
        (record(rsa_key(), k="dsa"), "unknown type"),
        (record(rsa_key(), p=""), "revoked"),
        ("v=DKIM1; k=rsa", "without key"),
        (record(rsa_key(), p="MIGf*"), "not base64"),
        (record(rsa_key(), p="AAAA"), "cannot be read"),
        (record(rsa_key(), k="ed25519"), "cannot be read"),
        pytest.param(of(EC.public_bytes(*SPKI)).decode(), "another type", id="ec"),
        pytest.param(
            of(ed25519_key().public_key().public_bytes(*SPKI)).decode(), "another type", id="ed25519"
        ),
        (of(bytes(31), "ed25519").decode(), "cannot be read"),
        ("v=spf1 -all", "version"),
        ("hello", "malformed"),
        ("v=DKIM1; p=a; p=b", "malformed"),
        ("v=DKIM1; p=" + "A" * 9000, "too long"),
    ],
    # Each process makes new keys, and both need the same test names.
    ids=lambda text: text if len(text) < 100 else "record",
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(keys.KeyRecordError, match=reason):
        keys.parse(text.encode())


def test_keys_that_cost_too_much() -> None:
    """A modulus of 16,384 bits, and an exponent as long as the modulus."""
    started = time.process_time()
    for numbers in (
        rsa.RSAPublicNumbers(65537, 2**16383 + 1),
        rsa.RSAPublicNumbers(2**2000 + 1, 2**2047 + 1),
    ):
        der = numbers.public_key().public_bytes(*SPKI)
        with pytest.raises(keys.KeyRecordError, match=r"too big|too long|cannot be read"):
            keys.parse(of(der))
    assert time.process_time() - started < 0.1


def test_a_signature_of_another_length_does_not_verify() -> None:
    key = keys.parse(record(rsa_key()).encode())
    assert not key.verifies(b"", bytes(32), "sha256")
    assert not key.verifies(bytes(256), bytes(32), "sha256")
    assert not key.verifies(bytes(512), bytes(32), "sha256")
    assert not keys.parse(record(ed25519_key()).encode()).verifies(b"x", bytes(32), "sha256")


@given(st.binary(max_size=300))
def test_only_key_record_errors(text: bytes) -> None:
    for each in (text, of(text), of(text, "ed25519")):
        with contextlib.suppress(keys.KeyRecordError):
            keys.parse(each)
