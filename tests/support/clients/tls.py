"""Certificates made for a test, and clients that speak TLS over a bare connection."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from tests.support.clients.wire import Wire


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def key_pem(self, passphrase: str | None = None) -> str:
        """The key."""
        how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        return str(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode())

    def pfx(self, passphrase: str | None = None) -> bytes:
        """Both as PKCS #12."""
        how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        return bytes(pkcs12.serialize_key_and_certificates(b"x", self.key, self.certificate, None, how))

    def write(self, folder: Path, name: str = "server", passphrase: str | None = None) -> tuple[Path, Path]:
        """Both as files; the certificate's path and the key's."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_text(self.pem)
        key.write_text(self.key_pem(passphrase))
        return certificate, key


class Authority:
    """Signs certificates. `context()` is that of a client that trusts it."""

    def __init__(self, name: str = "test authority") -> None:
        self.identity = _made(name, None, authority=True)

    @classmethod
    @cache
    def shared(cls) -> Self:
        """One for all tests: making keys takes a while."""
        return cls()

    def issue(
        self,
        name: str = "mx.server.example",
        *names: str,
        subject: dict[Any, str] | None = None,
        algorithm: str = "ec",
        days: int = 30,
    ) -> Identity:
        """A certificate for one or more host names."""
        return _made(
            name, self.identity, names=(name, *names), subject=subject, algorithm=algorithm, days=days
        )

    def context(self, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Trusts this authority alone; `client` are certificate and key files to show."""
        context = ssl.create_default_context(cadata=self.identity.pem)
        if client is not None:
            context.load_cert_chain(*client)
        return context


def trusting() -> ssl.SSLContext:
    """A client that accepts any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def encrypt(wire: Wire, context: ssl.SSLContext | None = None, name: str | None = None) -> ssl.SSLSocket:
    """Shake hands on a connection, which goes on encrypted. Raises ssl.SSLError."""
    made = (context or trusting()).wrap_socket(wire.socket, server_hostname=name or "mx.server.example")
    wire.socket = made
    return made


def starttls(wire: Wire, context: ssl.SSLContext | None = None, name: str | None = None) -> ssl.SSLSocket:
    """STARTTLS, after the hello. Raises ssl.SSLError."""
    reply = wire.command("STARTTLS")
    assert reply.code == 220, reply
    return encrypt(wire, context, name)


def _made(
    name: str,
    issuer: Identity | None,
    *,
    names: tuple[str, ...] = (),
    authority: bool = False,
    subject: dict[Any, str] | None = None,
    algorithm: str = "ec",
    days: int = 30,
) -> Identity:
    key: Any = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ec"
        else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    own = x509.Name(
        [x509.NameAttribute(kind, text) for kind, text in (subject or {NameOID.COMMON_NAME: name}).items()]
    )
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(issuer.certificate.subject if issuer else own)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        issuer_key = issuer.key.public_key()
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
    if authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(alternatives, critical=False)
    signer = issuer.key if issuer else key
    return Identity(builder.sign(signer, hashes.SHA256()), key)
