"""Making a self-signed certificate; run in a process of its own by `listener.smtp.tls.certificates`."""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SELF_SIGNED_DAYS: Final = 3_650
"""No client verifies a self-signed certificate, and a server may run for long."""

_MAX_NAME: Final = 64  # RFC 5280 appendix A.1: ub-common-name


def make(hostname: str) -> dict[str, str | float]:
    """A new P-256 `key` and its `certificate` (PEM) for that host name (or `[address]`), localhost and
    the loopback addresses, and the Unix time at which it ends, `not_after`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:_MAX_NAME] or "smtp-relay")])
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=SELF_SIGNED_DAYS)
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(_general_names(hostname)), False),
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A clock that is a little behind must not see a certificate from the future.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(key, hashes.SHA256())
    return {
        "certificate": certificate.public_bytes(Encoding.PEM).decode(),
        "key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "not_after": end.timestamp(),
    }


def main(hostname: str) -> None:
    """Write one to standard output, as JSON."""
    print(json.dumps(make(hostname)))


def _general_names(hostname: str) -> list[x509.GeneralName]:
    """The host and its names on this machine, because a client that trusts the certificate verifies the
    name that it connected to."""
    names: list[x509.GeneralName] = []
    for name in dict.fromkeys((hostname or "localhost", "localhost", "127.0.0.1", "::1")):
        try:
            one: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            one = x509.DNSName(name)
        if one not in names:
            names.append(one)
    return names
