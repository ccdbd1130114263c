"""TLS towards a server, from options."""

from __future__ import annotations

import os
import ssl
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_VERSIONS: Final = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_OLD: Final = frozenset({"TLSv1", "TLSv1.1"})


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
    try:
        if policy.ca:
            context.load_verify_locations(cadata="\n".join(policy.ca))
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except ssl.SSLError as error:
        raise ValueError(f"tls.ca: {_reason(error)}") from error
    with warnings.catch_warnings():
        # Old versions are deprecated, and used only if the configuration asks for them.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = _VERSIONS[policy.min_version]
        if policy.max_version is not None:
            context.maximum_version = _VERSIONS[policy.max_version]
    ciphers = policy.ciphers or ("DEFAULT:@SECLEVEL=0" if policy.min_version in _OLD else None)
    if ciphers is not None:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as error:
            raise ValueError(f"tls.ciphers: {_reason(error)}") from error
    if policy.cert is not None:
        _load_own(context, policy.cert, policy.key, policy.passphrase)
    elif policy.key is not None:
        raise ValueError("tls.key: needs tls.cert beside it")
    return context


def _load_own(context: ssl.SSLContext, cert: str, key: str | None, passphrase: str | None) -> None:
    # Without a passphrase OpenSSL asks for one on the terminal.
    try:
        with _as_file(f"{cert}\n{key or ''}") as path:
            context.load_cert_chain(path, password=passphrase or "")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise ValueError(
            f"tls.cert: {_reason(error)}: certificate and key are PEM and belong together"
        ) from error


def _reason(error: Exception) -> str:
    """OpenSSL's reason; some of Python's own errors have none."""
    return getattr(error, "reason", None) or str(error.args[0] if error.args else "cannot be used")


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A file for OpenSSL, which reads keys only from files; in memory if the system can."""
    with ExitStack() as stack:
        if hasattr(os, "memfd_create") and Path("/proc/self/fd").exists():
            memory = stack.enter_context(os.fdopen(os.memfd_create("certificate"), "wb", buffering=0))
            memory.write(text.encode())
            yield f"/proc/self/fd/{memory.fileno()}"
        else:
            file = stack.enter_context(tempfile.NamedTemporaryFile("w"))
            file.write(text)
            file.flush()
            yield file.name
