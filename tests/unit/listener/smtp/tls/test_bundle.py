"""Certificate and key out of one text, and what is said of one that does not hold both."""

from __future__ import annotations

import json

import pytest

from functions.errors import ConfigError
from listener.smtp.tls.bundle import unbundle

KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n"
CERT = "-----BEGIN CERTIFICATE-----\nMIIBszCC\n-----END CERTIFICATE-----\n"
PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjO\n-----END EC PARAMETERS-----\n"


@pytest.mark.parametrize(
    "kind", ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"]
)
def test_pem_in_any_order(kind: str) -> None:
    key = KEY.replace("PRIVATE KEY", f"{kind}PRIVATE KEY")
    for text in (CERT + CERT + key, f"a comment\n{key}{CERT}{CERT}", f"{CERT}{PARAMETERS}{key}\r\n{CERT}"):
        assert unbundle(text, "cert") == (CERT + CERT, key, None)


def test_written_out_line_ends() -> None:
    assert unbundle((CERT + KEY).replace("\n", "\\n"), "cert") == (CERT, KEY, None)


@pytest.mark.parametrize(
    ("certificate", "chain", "key"),
    [
        ("certificate", "certificateChain", "privateKey"),
        ("Certificate", "CertificateChain", "PrivateKey"),
        ("cert", "chain", "key"),
        ("certificate", "certificate_chain", "private_key"),
    ],
)
def test_json_with_each_name(certificate: str, chain: str, key: str) -> None:
    value = {certificate: CERT.strip(), chain: CERT, key: KEY, "arn": 3}
    assert unbundle(json.dumps(value), "cert") == (CERT + CERT, KEY, None)
    assert unbundle(json.dumps({certificate: CERT, key: KEY, chain: None}), "cert") == (CERT, KEY, None)
    assert unbundle(json.dumps({certificate: CERT, key: KEY, "passphrase": "x"}), "cert").passphrase == "x"


def test_json_with_the_line_ends_that_a_person_pasted() -> None:
    assert unbundle(f'{{"certificate": "{CERT}", "privateKey": "{KEY}"}}', "cert") == (CERT, KEY, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CERT, "holds no private key, and no key is given"),
        (KEY, "holds no certificate"),
        ('{"certificate": ', "begins like JSON, and is none (line 1)"),
        ("[1]", "is JSON, and no object"),
        ("[" * 100_000, "begins like JSON, and is none"),
        ("{}", "is JSON without a certificate"),
        (json.dumps({"certificate": CERT}), "is JSON without a privateKey"),
        (json.dumps({"certificate": CERT, "privateKey": 7}), "privateKey is no text"),
        (json.dumps({"certificate": CERT, "privateKey": "hunter2"}), "privateKey is not PEM"),
        (json.dumps({"certificate": KEY, "privateKey": CERT}), "certificate is not PEM"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_without_the_secret(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        unbundle(text, "options.cert")
    assert str(refused.value).startswith(f"options.cert: {reason}")
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "MII" not in str(refused.value)
