"""Packages that a configuration needs and that are not installed."""

from __future__ import annotations

from typing import Final

from functions.errors import ConfigError

_DISTRIBUTIONS: Final = {
    "botocore": "boto3",
    "google.cloud.pubsub_v1": "google-cloud-pubsub",
    "google.cloud": "google-cloud-storage",
    "google": "google-cloud-storage",
    "re2": "google-re2",
    "dns": "dnspython",
    "spf": "pyspf",
    "dkim": "dkimpy",
    "argon2": "argon2-cffi",
    "yaml": "pyyaml",
}
"""Modules to the distributions with them, where the names differ; the longest name counts."""


class NotAvailable(ConfigError):
    """The kind is known, but a package for it is not installed."""


def not_installed(where: str, what: str, error: ImportError, extra: str = "") -> NotAvailable:
    """`what` (a type, a secret) needs a package that cannot be imported. `extra` is the extra of this
    distribution that has it."""
    module = error.name or str(error)
    known = [name for name in _DISTRIBUTIONS if f"{module}.".startswith(f"{name}.")]
    package = _DISTRIBUTIONS[max(known, key=len)] if known else module.partition(".")[0]
    cure = f"pip install 'smtp-relay[{extra}]'" if extra else f"pip install {package}"
    return NotAvailable(where, f"{what} needs {package}: {cure}")
