"""Secrets in AWS: `ssm:/name` (Parameter Store) and `secretsmanager:id` (an id or ARN)."""

from __future__ import annotations

import base64
from typing import Any

from functions.aws.clients import REPEATABLE, plain_client
from functions.errors import ConfigError


def fetch(scheme: str, name: str) -> str:
    """The secret's text; a binary one as base64. Raises ConfigError, which never holds the secret."""
    shown = f"{scheme}:{name}"
    if not name:
        raise ConfigError(shown, "names nothing", f"{scheme}:NAME")
    try:
        return _parameter(name) if scheme == "ssm" else _secret(name)
    except ImportError:
        raise
    except Exception as error:
        # botocore's own checks take several lines.
        raise ConfigError(shown, f"cannot be read: {' '.join(str(error).split())}") from error


def _parameter(name: str) -> str:
    client = plain_client("ssm", REPEATABLE, region_name=_region(name))
    value: str = client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    return value


def _secret(name: str) -> str:
    client = plain_client("secretsmanager", REPEATABLE, region_name=_region(name))
    found: dict[str, Any] = client.get_secret_value(SecretId=name)
    if "SecretString" in found:
        text: str = found["SecretString"]
        return text
    return base64.b64encode(found["SecretBinary"]).decode()


def _region(name: str) -> str | None:
    """The region that an ARN names; other secrets are in this process's own."""
    parts = name.split(":")
    return parts[3] or None if name.startswith("arn:") and len(parts) > 5 else None
