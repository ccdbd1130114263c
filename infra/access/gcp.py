"""The resources of a configuration in Google Cloud: the buckets and topics that its outputs write to,
and the secrets that each half reads. Terraform makes one grant for each and no others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions.config import DeliveryConfig
from functions.errors import ConfigError
from functions.gcp.output.options import GcpOutputOptions
from functions.options.secrets import Secret, secrets_of

if TYPE_CHECKING:
    from listener.config.relay import RelayConfig

_NAME: Final = re.compile(r"projects/([^/]+)/secrets/([^/]+)(?:/versions/[^/]+)?")
_TOPIC: Final = re.compile(r"projects/([^/]+)/topics/([^/]+)")


def access(config: Path) -> dict[str, Any]:
    """Buckets with the prefix of their objects, topics and secrets with their projects (null: the
    deployment's own). Raises ConfigError for an output that the function cannot run."""
    from listener.config.load import load

    whole = load(config, {**os.environ, "SMTP_RELAY_SPOOL": "gs://spool"})
    return {
        "buckets": _buckets(whole),
        "topics": _topics(whole),
        "secrets": {
            "function": _secrets(_of_outputs(whole)),
            "listener": _secrets(_of_listener(whole)),
        },
    }


def _of_outputs(config: RelayConfig) -> Iterator[tuple[str, Secret]]:
    for name, flow in config.flows.items():
        for index, output in enumerate(flow.outputs):
            yield from secrets_of(output, f"flows.{name}.outputs[{index}]")


def _of_listener(config: RelayConfig) -> Iterator[tuple[str, Secret]]:
    """The secrets of the filters, and of everything outside of the flows."""
    for name, flow in config.flows.items():
        yield from secrets_of(flow.filters, f"flows.{name}.filters")
    for name in type(config).model_fields:
        if name != "flows":
            yield from secrets_of(getattr(config, name), name)


def _buckets(config: DeliveryConfig) -> list[dict[str, str]]:
    found = set()
    for output in _cloud_outputs(config):
        if output.storage is not None:
            found.add((output.storage.bucket, output.storage.key_start))
    return [{"bucket": bucket, "prefix": prefix} for bucket, prefix in sorted(found)]


def _topics(config: DeliveryConfig) -> list[dict[str, str | None]]:
    found: set[tuple[str, str]] = set()
    for output in _cloud_outputs(config):
        if output.pubsub is not None:
            whole = _TOPIC.fullmatch(output.pubsub.topic)
            found.add((whole[1], whole[2]) if whole else (output.project or "", output.pubsub.topic))
    return [{"project": project or None, "topic": topic} for project, topic in sorted(found)]


def _cloud_outputs(config: DeliveryConfig) -> Iterator[GcpOutputOptions]:
    for name, flow in config.flows.items():
        for index, output in enumerate(flow.outputs):
            if "gcp" not in output.runs_in:
                raise ConfigError(
                    f"flows.{name}.outputs[{index}]",
                    f"the Cloud Run function runs no {output.type} outputs",
                )
            if isinstance(output, GcpOutputOptions):
                yield output


def _secrets(found: Iterable[tuple[str, Secret]]) -> list[dict[str, str]]:
    names: set[tuple[str, str]] = set()
    for path, secret in found:
        if secret.scheme == "gcp-secret":
            name = _NAME.fullmatch(secret.shown.partition(":")[2])
            if name is None:
                raise ConfigError(path, f"{secret.shown} is not gcp-secret:projects/PROJECT/secrets/NAME")
            names.add((name[1], name[2]))
        elif "outputs[" in path:
            raise ConfigError(
                path, f"{secret.shown}: the function reads its secrets from Secret Manager (gcp-secret:)"
            )
    return [{"project": project, "secret": secret} for project, secret in sorted(names)]
