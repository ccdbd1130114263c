"""One thing that `check` has to say about a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from functions.options.secrets import Runtime

Severity = Literal["error", "warning", "note"]
Platform = Literal["fargate", "cloud-run"]


class Finding(NamedTuple):
    """`error`: it must not run so; `warning`: it runs, and somebody should know; `note`: what is
    so. `where` is a path in the file, "" for the whole."""

    severity: Severity
    where: str
    text: str

    def __str__(self) -> str:
        return (
            f"{self.severity}: {self.where}: {self.text}" if self.where else f"{self.severity}: {self.text}"
        )


@dataclass(frozen=True, slots=True)
class Setting(Runtime):
    """Where the configuration is looked at, whether strangers reach its listeners whatever they bind
    (`public`), and the platform that will run it, where one is known."""

    public: bool = False
    platform: Platform | None = None


def error(where: str, text: str) -> Finding:
    """A reason to refuse the configuration."""
    return Finding("error", where, text)


def warning(where: str, text: str) -> Finding:
    """Something to know."""
    return Finding("warning", where, text)


def note(where: str, text: str) -> Finding:
    """Something that is so."""
    return Finding("note", where, text)
