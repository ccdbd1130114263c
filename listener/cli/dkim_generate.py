"""`dkim-generate`: a key pair, its DNS record, and its configuration."""

from __future__ import annotations

import argparse
import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from functions.errors import ConfigError
from functions.processors.mailer.options import check_domain, check_selector
from listener.cli.arguments import write_new
from listener.cli.parser import give_examples

_STRING: Final = 255  # RFC 1035 section 3.3: most bytes of one string of a TXT record


@dataclass(frozen=True, slots=True)
class DkimKey:
    """A new key: `private` is PEM (PKCS #8), `record` the value of the TXT record."""

    private: str
    record: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("domain", metavar="DOMAIN", help="the signing domain")
    parser.add_argument("selector", metavar="SELECTOR", help="names the key: `default`, `jan2026` …")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--bits", type=int, choices=(1024, 2048, 3072, 4096), default=2048, help="RSA key size (2048)"
    )
    kind.add_argument("--ed25519", action="store_true", help="an Ed25519 key (RFC 8463)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the private key there (mode 0600), not to the screen"
    )
    give_examples(
        parser,
        "smtp-relay dkim-generate example.com default",
        "smtp-relay dkim-generate example.com jan2026 --bits 4096 --out jan2026.pem",
        "smtp-relay dkim-generate example.com ed2026 --ed25519",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the key and print the record and both ways to configure it. Raises ConfigError."""
    try:
        domain = check_domain(arguments.domain.rstrip("."))
        selector = check_selector(arguments.selector)
    except ValueError as error:
        raise ConfigError("dkim-generate", str(error)) from error
    key = generate_ed25519() if arguments.ed25519 else generate_rsa(arguments.bits)
    private = key.private
    if arguments.out is not None:
        write_new(arguments.out, key.private, 0o600)
        private = f"file://{arguments.out}"
    print(report(domain, selector, key.record, private))
    return 0


def generate_rsa(bits: int) -> DkimKey:
    """An RSA key (RFC 6376)."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=bits)
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return DkimKey(_pem(key), f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}")


def generate_ed25519() -> DkimKey:
    """An Ed25519 key; its record holds the 32 bytes bare (RFC 8463 section 4)."""
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    return DkimKey(_pem(key), f"v=DKIM1; k=ed25519; p={base64.b64encode(public).decode()}")


def txt_strings(record: str) -> list[str]:
    """A TXT record's value in strings of at most 255 bytes, which readers join."""
    return [record[at : at + _STRING] for at in range(0, len(record), _STRING)]


def report(domain: str, selector: str, record: str, private: str) -> str:
    """The output: the record in a zone file's form, and both configurations."""
    strings = "\n".join(f'    "{part}"' for part in txt_strings(record))
    one = {"domainName": domain, "keySelector": selector, "privateKey": private}
    many = {domain: {"keySelector": selector, "privateKey": private}}
    return "\n".join(
        (
            "DNS TXT record (readers join the strings):",
            "",
            f"{selector}._domainkey.{domain}. IN TXT (",
            strings,
            ")",
            "",
            "Its value in one piece:",
            "",
            f"{selector}._domainkey.{domain} {record}",
            "",
            "Configuration with one key:",
            "",
            _output({"dkim": one}),
            "",
            "Configuration with several keys, by domain:",
            "",
            _output({"dkims": many}),
            "",
            "Keep the private key secret: out of version control, in a file or a secret store.",
        )
    )


def _output(options: dict[str, object]) -> str:
    return json.dumps({"outputs": [{"type": "nodemailer", **options}]}, indent=2)


def _pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
