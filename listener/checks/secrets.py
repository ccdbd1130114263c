"""Secrets and files that the listener needs but that are not available here."""

from __future__ import annotations

from collections.abc import Iterator

from functions.errors import ConfigError
from functions.options.secrets import Secret, secrets_of
from listener.checks.finding import Finding, Setting, error, note, warning
from listener.config.relay import RelayConfig


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """Secrets that cannot be resolved here. A missing file is an error. A missing variable is only a
    warning, because the relay's environment may set it. References into a cloud are not followed."""
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
            for key, file in options.files_read().items():
                if not (setting.folder / file).is_file():
                    yield error(f"flows.{name}.filters[{index}].{key}", f"{file}: the file does not exist")


def _needed_here(config: RelayConfig) -> Iterator[tuple[str, Secret]]:
    yield from secrets_of(config.options, "options")
    yield from secrets_of(config.listeners, "listeners")
    yield from secrets_of(config.spool, "spool")
    for name, flow in config.flows.items():
        yield from secrets_of(flow.filters, f"flows.{name}.filters")
        if config.mode == "in-process":
            yield from secrets_of(flow.outputs, f"flows.{name}.outputs")
