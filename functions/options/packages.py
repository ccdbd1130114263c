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
    "argon2": "argon2-cffi",
    "yaml": "pyyaml",
}
"""Modules to the distributions with them, where the names differ; the longest name counts."""


_MAIN: Final = {"aws": "boto3", "gcp": "google-cloud-storage", "mailer": "cryptography"}
"""The package that an extra is for."""


class NotAvailable(ConfigError):
    """The kind is known, but a package for it is not installed."""


def not_installed(where: str, what: str, error: ImportError, extra: str = "") -> NotAvailable:
    """`what` (a type, a secret) needs a package that cannot be imported. `extra` is the extra of this
    distribution that has it."""
    module = error.name or ""
    known = [name for name in _DISTRIBUTIONS if f"{module}.".startswith(f"{name}.")]
    own = module.partition(".")[0] or _MAIN.get(extra, str(error))
    package = _DISTRIBUTIONS[max(known, key=len)] if known else own
    cure = f"pip install 'smtp-relay[{extra}]'" if extra else f"pip install {package}"
    return NotAvailable(where, f"{what} needs {package}: {cure}")
