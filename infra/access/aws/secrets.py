"""The secrets of a configuration that each half reads on AWS, and their resources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from functions.errors import ConfigError
from functions.options.secrets import Secret, secrets_of
from functions.processors.base import OutputOptions
from listener.config.relay import RelayConfig

SCHEMES: Final = ("ssm", "secretsmanager")

_HASHED: Final = re.compile(r"(?:[A-Za-z0-9-]+:[0-9a-f]{32,}|\$(?:argon2id|2[aby])\$.+)")
"""A password's hash alone reveals nothing."""


def listener_secrets(config: RelayConfig) -> Iterator[tuple[str, Secret]]:
    """The listener's secrets: of its options, its ports and the filters."""
    yield from secrets_of(config.options, "options")
    yield from secrets_of(config.listeners, "listeners")
    for name, flow in config.flows.items():
        yield from secrets_of(flow.filters, f"flows.{name}.filters")


def output_secrets(options: OutputOptions) -> Iterator[Secret]:
    """The function's secrets of one output."""
    for _, secret in secrets_of(options):
        yield secret


def refusal(secret: Secret) -> str | None:
    """The reason why the listener cannot be deployed with this secret; None if it can."""
    if secret.scheme in SCHEMES:
        return None
    if secret.scheme == "plain":
        text = secret.resolve(lambda reference: reference)
        if _HASHED.fullmatch(text):
            return None
        return "would be readable in the task's definition: use ssm: or secretsmanager:"
    return f"{secret.shown}does not exist in the container: use ssm: or secretsmanager:"


def arn_of(secret: Secret, *, partition: str, region: str, account: str) -> str:
    """The ARN of a referenced secret. Raises ConfigError for a store that is not AWS's."""
    scheme, _, name = secret.shown.partition(":")
    if scheme not in SCHEMES:
        raise ConfigError(secret.shown, "is not read on AWS", "use ssm: or secretsmanager:")
    if name.startswith("arn:"):
        return name
    if scheme == "ssm":
        return f"arn:{partition}:ssm:{region}:{account}:parameter/{name.removeprefix('/')}"
    # Secrets Manager appends six characters to the name (its ARN format).
    return f"arn:{partition}:secretsmanager:{region}:{account}:secret:{name}-??????"
