"""Certificates and TLS versions of the listener."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from functions.options.secrets import Secret
from functions.options.types import OptionsModel

TlsVersion = Literal["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]


class Certificate(OptionsModel):
    """One certificate with its key. The listener rereads files when they change."""

    key: Secret | None = None
    """The certificate's private key, PEM. Default: the secret of `cert` holds it, as it does where both are
    the same reference."""

    cert: Secret | None = None
    """The certificate (PEM) and its chain. With the key in it, as PEM or as JSON (`certificate`,
    `certificateChain`, `privateKey`, `passphrase`), both are always from one reading."""

    ca: Secret | tuple[Secret, ...] | None = None
    """Certificates (PEM) to verify clients with."""

    pfx: Secret | None = None
    """Key and certificate as PKCS #12: a file, or base64."""

    passphrase: Secret | None = None
    """The passphrase of the key or the PKCS #12 file."""

    @model_validator(mode="after")
    def _key_with_cert(self) -> Certificate:
        if self.key is not None and self.cert is None:
            raise ValueError("key and cert go together: cert is missing")
        if self.pfx is not None and self.cert is not None:
            raise ValueError("pfx stands for key and cert: give one of them")
        return self

    @property
    def has_certificate(self) -> bool:
        """True if a certificate is given, so the server makes none."""
        return self.cert is not None or self.pfx is not None


class SniCertificate(Certificate):
    """The certificate for one host name."""

    min_version: TlsVersion | None = None
    """The oldest TLS version for this name."""

    max_version: TlsVersion | None = None
    """The newest TLS version for this name."""

    ciphers: str | None = None
    """OpenSSL's cipher list for this name, TLS 1.2 and older."""
