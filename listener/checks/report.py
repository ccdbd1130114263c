"""`check`: validate a configuration and report what it does, exposes and lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from functions.errors import ConfigError
from functions.options.secrets import Secret, secrets_of
from listener.checks import deployment, flows, listeners, loopingz, strangers
from listener.checks.finding import Finding, Setting, error, note, warning
from listener.config.load import load
from listener.config.relay import RelayConfig


def findings(config: RelayConfig, setting: Setting) -> tuple[Finding, ...]:
    """All findings, notes first, errors last."""
    order = ("note", "warning", "error")
    return tuple(sorted(_all(config, setting), key=lambda found: order.index(found.severity)))


def start_warnings(config: RelayConfig, setting: Setting) -> tuple[Finding, ...]:
    """Findings that a starting server logs too: warnings, and errors that do not stop it."""
    found = (
        *(warning("", line) for line in config.warnings),
        *listeners.findings(config, setting),
        *(() if config.spool.in_bucket else deployment.folder_findings(config, setting)),
    )
    return tuple(one for one in found if one.severity != "note")


def run(path: Path | None, setting: Setting, *, from_loopingz: bool, out: TextIO, err: TextIO) -> int:
    """Check one file and print the findings. Returns the exit status: 0, or 2 for an error."""
    try:
        config = load(path, setting.environ)
    except ConfigError as mistake:
        print(mistake, file=err)
        return 2
    found = findings(config, setting)
    print(f"{config.source}: digest {config.digest[:16]}", file=out)
    for one in found:
        print(one, file=err if one.severity == "error" else out)
    if from_loopingz:
        print("differences from loopingz/smtp-relay that concern this file:", file=out)
        for line in loopingz.differences(config):
            print(f"  {line}", file=out)
    errors = sum(one.severity == "error" for one in found)
    print(f"{config.source}: " + (f"{errors} to fix" if errors else "good"), file=out)
    return 2 if errors else 0


def _all(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    for line in config.warnings:
        yield warning("", line)
    yield from listeners.findings(config, setting)
    yield from flows.findings(config, setting)
    yield from deployment.findings(config, setting)
    yield from _secrets(config, setting)
    yield from strangers.findings(config, setting)
    if config.mode == "events":
        yield note("", "the function builds the outputs: missing packages show there")


def _secrets(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
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
