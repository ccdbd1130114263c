"""Secrets and files that the listener needs and that are not here."""

from __future__ import annotations

from collections.abc import Iterator

from functions.errors import ConfigError
from functions.options.secrets import Secret, secrets_of
from listener.checks.finding import Finding, Setting, error, note, warning
from listener.config.relay import RelayConfig


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """What cannot be resolved here. A missing file is an error; a missing variable only a warning,
    since it may be set where the relay runs; references into a cloud are not followed."""
    for path, secret in _needed_here(config):
        if secret.in_cloud:
            yield note(path, f"{secret.shown} is read at start")
            continue
        try:
            if secret.scheme == "file":
                setting.secrets.file(secret.shown)
            else:
                secret.resolve(setting.secrets)
        except ConfigError as absent:
            make = warning if secret.scheme == "env" else error
            yield make(path, str(absent))
    for name, flow in config.flows.items():
        for index, options in enumerate(flow.filters):
            file = getattr(options, "htpasswd", None)
            if file is not None and not (setting.folder / file).is_file():
                yield error(f"flows.{name}.filters[{index}].htpasswd", f"{file}: there is no such file")


def _needed_here(config: RelayConfig) -> Iterator[tuple[str, Secret]]:
    yield from secrets_of(config.options, "options")
    yield from secrets_of(config.listeners, "listeners")
    yield from secrets_of(config.spool, "spool")
    for name, flow in config.flows.items():
        yield from secrets_of(flow.filters, f"flows.{name}.filters")
        if config.mode == "in-process":
            yield from secrets_of(flow.outputs, f"flows.{name}.outputs")
