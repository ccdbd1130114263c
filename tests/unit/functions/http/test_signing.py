"""Signatures of webhooks, by the definition and by another implementation."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from functions.http.signing import Hmac, HmacSigner, WebhookSigner, webhook_key
from functions.options.secrets import Secret

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def test_the_example_of_the_standard() -> None:
    """Standard Webhooks, "Signature scheme"."""
    signer = WebhookSigner(
        [webhook_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")], clock=lambda: 1_614_265_330.9
    )
    headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_two_keys_make_two_signatures() -> None:
    other = bytes(24)
    headers = WebhookSigner([KEY, other], clock=lambda: 100.0).headers("id", [b"bo", b"dy"])
    expected = [
        "v1," + base64.b64encode(hmac.digest(key, b"id.100.body", hashlib.sha256)).decode()
        for key in (KEY, other)
    ]
    assert headers["webhook-signature"].split(" ") == expected


def test_without_keys_there_is_an_id_and_a_time() -> None:
    assert set(WebhookSigner([]).headers("id", b"")) == {"webhook-id", "webhook-timestamp"}


@pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix("whsec_"), f" {SECRET}\n"])
def test_a_secret_is_base64_with_or_without_its_prefix(secret: str) -> None:
    assert webhook_key(secret) == KEY


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("whsec_" + base64.b64encode(bytes(23)).decode(), "has 23 bytes"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "has 65 bytes"),
        ("hunter2 hunter2", "is not base64"),
        ("whsec_ü", "is not base64"),
        ("", "has 0 bytes"),
    ],
)
def test_other_secrets_are_refused_and_not_shown(secret: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as found:
        webhook_key(secret)
    assert "hunter2" not in str(found.value)


def test_the_older_header_is_the_same_for_a_body_in_pieces() -> None:
    signer = HmacSigner(Hmac(secret=Secret("k")), b"k", clock=lambda: 5)
    whole = signer.headers("https://h/p", "POST", b"abcdef")
    assert signer.headers("https://h/p", "POST", [b"", b"ab", b"", b"cdef"]) == whole
    assert (
        whole["X-SMTP-RELAY"] == hmac.new(b"k", b"https://h/p\nPOST\n5\nabcdef", hashlib.sha256).hexdigest()
    )
    assert (
        signer.headers("https://h/p", "POST", b"")["X-SMTP-RELAY"]
        == hmac.new(b"k", b"https://h/p\nPOST\n5", hashlib.sha256).hexdigest()
    )
