"""TLS towards a server, from options."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from functions.options.tls import load_key_pair, restrict


@dataclass(frozen=True, slots=True)
class Policy:
    """Options of TLS; certificates and keys are PEM. `ca` replaces the system's authorities."""

    verify: bool = True
    ca: tuple[str, ...] = ()
    cert: str | None = None
    key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    min_version: str = "TLSv1.2"
    max_version: str | None = None
    ciphers: str | None = None


def client_context(policy: Policy) -> ssl.SSLContext:
    """The context for connections. Raises ValueError, naming the wrong option."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not policy.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if policy.max_version is not None and policy.max_version < policy.min_version:
        raise ValueError(
            f"tls.maxVersion: {policy.max_version} is older than minVersion {policy.min_version} (swap them)"
        )
    if any("-----BEGIN" not in each for each in policy.ca):
        raise ValueError("tls.ca: is not PEM (write file://PATH, or the certificate itself)")
    try:
        if policy.ca:
            context.load_verify_locations(cadata="\n".join(policy.ca))
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except ssl.SSLError as error:
        raise ValueError(f"tls.ca: {_reason(error)}") from error
    try:
        restrict(context, policy.min_version, policy.max_version, policy.ciphers or None)
    except ssl.SSLError as error:
        raise ValueError(f"tls.ciphers: {_reason(error)}") from error
    if policy.cert is not None:
        _load_own(context, policy.cert, policy.key, policy.passphrase)
    elif policy.key is not None:
        raise ValueError("tls.key: needs tls.cert beside it")
    return context


def _load_own(context: ssl.SSLContext, cert: str, key: str | None, passphrase: str | None) -> None:
    try:
        load_key_pair(context, f"{cert}\n{key or ''}", passphrase)
    except (ssl.SSLError, ValueError, OSError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise ValueError(
                "tls.key: KEY_VALUES_MISMATCH: the key does not belong to the certificate (give the key "
                "that it was made for)"
            ) from error
        if key is None and "PRIVATE KEY-----" not in cert:
            raise ValueError("tls.cert: has no key beside it (give tls.key)") from error
        raise ValueError(
            f"tls.cert: {_reason(error)}: certificate and key are PEM and belong together"
        ) from error


def _reason(error: Exception) -> str:
    """OpenSSL's reason; some of Python's own errors have none."""
    return getattr(error, "reason", None) or str(error.args[-1] if error.args else "cannot be used")
