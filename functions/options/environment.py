"""The environment variables `SMTP_RELAY_…`, without those that Kubernetes sets.

Kubernetes gives every container variables about each service of its namespace. For a service named
`smtp-relay-health` one of them is SMTP_RELAY_HEALTH_PORT=tcp://10.96.0.7:8080.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

VARIABLES: Final = (
    "SMTP_RELAY_BIND",
    "SMTP_RELAY_CONFIG_JSON",
    "SMTP_RELAY_DEFAULT_BIND",
    "SMTP_RELAY_HEALTH_PORT",
    "SMTP_RELAY_LIMITS_TABLE",
    "SMTP_RELAY_LISTENERS",
    "SMTP_RELAY_MEMORY",
    "SMTP_RELAY_PORT",
    "SMTP_RELAY_QUEUE_URL",
    "SMTP_RELAY_RECEIPTS_TABLE",
    "SMTP_RELAY_SES_CONCURRENCY",
    "SMTP_RELAY_SPOOL",
    "SMTP_RELAY_TIMEOUT",
    "SMTP_RELAY_TOPIC",
    "SMTP_RELAY_TRUSTED_PROXIES",
)
"""Every variable that some part of the product reads."""

_USUAL: Final = "SMTP_RELAY_PORT"
"""Kubernetes sets it for a service named `smtp-relay`, which is the usual name: a line at every start would
tell nothing."""

_INJECTED: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[^/:@\[\]\s]+):[0-9]{1,5}", re.IGNORECASE
)
"""The form that Kubernetes writes: `scheme://host:port`. No variable of the relay has it, because a spool
has a bucket or folder, and a queue's URL a path."""


def variable(environ: Mapping[str, str], name: str) -> str | None:
    """The variable's value; None when it is not set, or set by Kubernetes for a service."""
    value = environ.get(name)
    return None if value is None or _INJECTED.fullmatch(value) else value


def ignored(environ: Mapping[str, str]) -> tuple[str, ...]:
    """A line for each variable that is set and that `variable` does not give, except SMTP_RELAY_PORT."""
    return tuple(
        f"{name}: ignored: {environ[name]} comes from Kubernetes, which sets it for a service"
        for name in VARIABLES
        if name in environ and name != _USUAL and variable(environ, name) is None
    )
