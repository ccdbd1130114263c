"""The shared part of the options of a TLS server and a TLS client."""

from __future__ import annotations

import os
import ssl
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

VERSIONS: Final[Mapping[str, ssl.TLSVersion]] = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}

_OLD: Final = frozenset({"TLSv1", "TLSv1.1"})

_OLD_CIPHERS: Final = "DEFAULT:@SECLEVEL=0"
"""OpenSSL 3 speaks TLS 1.0 and 1.1 only at security level 0; a configuration that names them wants them."""


def restrict(context: ssl.SSLContext, oldest: str, newest: str | None, ciphers: str | None) -> None:
    """Sets the versions, and OpenSSL's cipher list for TLS 1.2 and older. Raises ssl.SSLError for a
    list that names no known cipher."""
    with warnings.catch_warnings():
        # Python warns of old versions; `check` and the option's name say enough.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = VERSIONS[oldest]
        if newest is not None:
            context.maximum_version = VERSIONS[newest]
    if ciphers is None and oldest in _OLD:
        ciphers = _OLD_CIPHERS
    if ciphers is not None:
        context.set_ciphers(ciphers)


def load_key_pair(context: ssl.SSLContext, text: str, passphrase: str | None) -> None:
    """Loads a key and its certificates, all PEM in one text. Raises ssl.SSLError or ValueError if a
    part is unreadable or does not belong to the others."""
    with _as_file(text) as path:
        # Without a passphrase OpenSSL would ask for one on the terminal.
        context.load_cert_chain(path, password=passphrase or "")


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A file that holds the text, because Python loads keys only from files. It is in memory if the
    system can do that, because then no key touches a disk and no folder need be writable."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").exists():
        with os.fdopen(os.memfd_create("certificate"), "wb", buffering=0) as memory:
            memory.write(text.encode())
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(text.encode())
            file.flush()
            yield file.name
