"""Certificates as PEM: read as the options say, or self-signed if they name none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.errors import ConfigError
from listener.smtp.tls.bundle import line_ends, unbundle

if TYPE_CHECKING:
    from functions.options.secrets import Secret, SecretResolver
    from listener.config.tls import Certificate


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and the certificates that go with it, the server's own first; PEM. The key
    may be encrypted with `passphrase`."""

    certificates: str
    key: str = field(repr=False)
    passphrase: str | None = field(default=None, repr=False)
    not_after: float | None = None
    """Unix time at which the certificate ends, if that is known already."""
    bundled: bool = False
    """True if the option `cert` alone gave both."""


@dataclass(frozen=True, slots=True)
class Material:
    """The content of one `Certificate` of the options, read; None and "" for missing parts."""

    pair: KeyPair | None
    authorities: str = field(default="", repr=False)
    """Certificates (PEM) to verify clients with."""


def read(options: Certificate, resolver: SecretResolver, where: str) -> Material:
    """Resolve and read the certificate at `where` in the configuration. Raises ConfigError.

    May wait for files and secret stores: not for the event loop.
    """
    given = options.ca if isinstance(options.ca, tuple) else filter(None, (options.ca,))
    authorities = "\n".join(line_ends(each.resolve(resolver)) for each in given)
    return Material(_pair(options, resolver, where), authorities)


def _pair(options: Certificate, resolver: SecretResolver, where: str) -> KeyPair | None:
    passphrase = options.passphrase.resolve(resolver) if options.passphrase is not None else None
    if options.pfx is not None:
        return _unpacked(options.pfx, resolver, passphrase, f"{where}.pfx")
    if options.cert is None:
        return None
    text = _text(options.cert, resolver, f"{where}.cert")
    if options.key is None or options.key == options.cert:
        found = unbundle(text, f"{where}.cert")
        return KeyPair(
            found.certificates, found.key, found.passphrase or passphrase, bundled=options.key is None
        )
    key = _text(options.key, resolver, f"{where}.key")
    return KeyPair(line_ends(text), line_ends(key), passphrase)


def _text(secret: Secret, resolver: SecretResolver, where: str) -> str:
    try:
        return secret.resolve(resolver)
    except ConfigError as error:
        if "not UTF-8" in error.what:
            raise ConfigError(
                where, f"{secret.shown} is not PEM but binary", "openssl x509 -inform DER makes PEM of it"
            ) from error
        raise


def _unpacked(pfx: Secret, resolver: SecretResolver, passphrase: str | None, where: str) -> KeyPair:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        pkcs12,
    )

    password = passphrase.encode() if passphrase is not None else None
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(pfx.resolve_bytes(resolver), password)
    except ValueError as error:
        raise ConfigError(
            where, "is not a PKCS #12 file, or the passphrase is wrong", "openssl pkcs12 -export makes one"
        ) from error
    if key is None or certificate is None:
        raise ConfigError(
            where, "holds no private key with its certificate", "openssl pkcs12 -export -inkey adds it"
        )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return KeyPair("".join(one.public_bytes(Encoding.PEM).decode() for one in (certificate, *others)), pem)


def end_of(pair: KeyPair) -> float | None:
    """Unix time at which the server's own certificate ends; None when it cannot be read."""
    if pair.not_after is not None:
        return pair.not_after
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(pair.certificates.encode())
    except ValueError:
        return None
    return certificates[0].not_valid_after_utc.timestamp()


@cache
def self_signed(hostname: str) -> KeyPair:
    """A new P-256 key and its self-signed certificate for that host name (or `[address]`); the same
    one for later calls, also in the processes that are forked from this one.

    A process of its own makes it, because the library costs 14 MB, which a server with no other use
    for it would keep for ever.
    """
    # Ours come first: the path may hold a project with a package of the same name.
    path = [os.fspath(Path(__file__).parents[3]), *sys.path]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {_MAKE}", hostname]
    made = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)  # noqa: S603
    return KeyPair(made["certificate"], made["key"], not_after=made["not_after"])


_MAKE: Final = "from listener.smtp.tls.self_signed import main; main(sys.argv[1])"
