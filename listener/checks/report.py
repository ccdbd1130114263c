"""The report of `check`: what a configuration does, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from functions.errors import ConfigError, ConfigErrors
from functions.options.secrets import secrets_of
from listener.checks import deployment, flows, inbox, listeners, literals, loopingz, sending, strangers
from listener.checks.finding import Finding, Setting, warning
from listener.config.relay import RelayConfig


def findings(config: RelayConfig, setting: Setting) -> tuple[Finding, ...]:
    """All findings about a configuration that can be read, notes first."""
    order = ("note", "warning", "error")
    return tuple(sorted(_all(config, setting), key=lambda found: order.index(found.severity)))


def start_warnings(config: RelayConfig, setting: Setting) -> tuple[Finding, ...]:
    """Findings that a starting server logs too: warnings, and errors that do not stop it."""
    return (
        *(warning("", line) for line in config.warnings),
        *listeners.findings(config, setting),
        *strangers.scripted(config, setting),
        *(() if config.spool.in_bucket else deployment.folder_findings(config, setting)),
    )


def _all(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    for line in config.warnings:
        where, _, text = line.partition(": ")
        yield warning(where, text)
    yield from listeners.findings(config, setting)
    yield from flows.findings(config, setting)
    yield from literals.findings(config, setting)
    yield from deployment.findings(config, setting)
    yield from strangers.findings(config, setting)
    yield from sending.findings(config, setting)
    yield from inbox.findings(config, setting)


@dataclass(frozen=True)
class CheckReport:
    """What `check` says about one file. The places of all findings are whole: they begin with the file or
    the environment variable. `notes` are about this machine, and do not change the status."""

    source: str
    notes: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    errors: tuple[Finding, ...] = ()
    sentences: tuple[str, ...] = ()
    digest: str = ""
    unchecked: str = ""
    differences: tuple[str, ...] | None = None

    @classmethod
    def of_mistake(cls, source: str, mistake: ConfigError) -> CheckReport:
        """The report about a file that cannot be read."""
        return cls(source, errors=tuple(_found("error", (mistake,))))

    @classmethod
    def of(
        cls,
        config: RelayConfig,
        setting: Setting,
        *,
        errors: Sequence[ConfigError] = (),
        warnings: Sequence[ConfigError] = (),
        from_loopingz: bool = False,
    ) -> CheckReport:
        """The report about a configuration; `errors` and `warnings` came of building it."""
        source = config.source
        static = [
            one._replace(where=f"{source}: {one.where}" if one.where else source)
            for one in findings(config, setting)
        ]
        failed = tuple(_found("error", errors))
        places = {one.where for one in failed}
        told = [
            one
            for one in static
            # A flow whose filter cannot be built takes nothing, of course.
            if not any(place.startswith(f"{one.where}.filters") for place in places)
        ]
        return cls(
            source,
            tuple(one for one in told if one.severity == "note"),
            tuple(
                dict.fromkeys(
                    [one for one in told if one.severity == "warning"] + list(_found("warning", warnings))
                )
            ),
            tuple(dict.fromkeys([one for one in static if one.severity == "error"] + list(failed))),
            (
                *listeners.sentences(config),
                *flows.sentences(config),
                deployment.sentence(config),
            ),
            config.digest,
            _unchecked(config) if setting.elsewhere else "",
            tuple(loopingz.ordered(config)) if from_loopingz else None,
        )

    def status(self, *, strict: bool) -> int:
        """2 with errors, with `strict` 1 with warnings, else 0."""
        return 2 if self.errors else 1 if strict and self.warnings else 0

    def lines(self, *, strict: bool = False) -> Iterator[str]:
        """For a reader: what the configuration does, notes, warnings, errors, and the result."""
        yield from self.sentences
        if self.differences is not None:
            yield "differences from loopingz/smtp-relay that concern this file:"
            yield from (f"  {line}" for line in self.differences)
        yield from map(str, (*self.notes, *self.warnings))
        yield from map(str, self.errors)
        count = len(self.errors) or (len(self.warnings) if strict else 0)
        yield f"{self.source}: {f'{count} to fix' if count else 'good'}"
        if self.unchecked:
            yield f"not checked: {self.unchecked}"

    def as_json(self) -> str:
        """The same for programs."""

        def each(found: Iterable[Finding]) -> list[dict[str, str]]:
            return [{"place": one.where, "text": one.text} for one in found]

        value: dict[str, Any] = {
            "source": self.source,
            "good": not self.errors,
            "digest": self.digest or None,
            "does": list(self.sentences),
            "notes": each(self.notes),
            "warnings": each(self.warnings),
            "errors": each(self.errors),
            "unchecked": self.unchecked or None,
        }
        if self.differences is not None:
            value["differences"] = list(self.differences)
        return json.dumps(value, ensure_ascii=False, indent=2)


def _found(severity: Any, mistakes: Iterable[ConfigError]) -> Iterator[Finding]:
    for mistake in mistakes:
        if isinstance(mistake, ConfigErrors):
            yield from _found(severity, mistake.problems)
        else:
            cure = f" ({mistake.cure})" if mistake.cure else ""
            yield Finding(severity, mistake.where, f"{mistake.what}{cure}")


def _unchecked(config: RelayConfig) -> str:
    shown = dict.fromkeys(secret.shown for _, secret in secrets_of(config) if secret.scheme != "plain")
    secrets = f"the secrets behind {', '.join(shown)}, " if shown else ""
    return f"{secrets}packages, folders, files and addresses of the machine that will run it"
