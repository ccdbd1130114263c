"""The arguments of a filter's `build()` besides its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from functions.options.secrets import SecretResolver


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The context of every filter's `build(options, name, context)`.

    `folder` is the absolute working folder, where relative paths of the configuration start.
    `environ` is the environment at start, `secrets` the argument of `Secret.resolve`.
    `filter_timeout` is the number of seconds that a filter has to answer.
    """

    folder: Path
    environ: Mapping[str, str]
    secrets: SecretResolver
    filter_timeout: float = 30.0

    @classmethod
    def of(cls, folder: Path, environ: Mapping[str, str], filter_timeout: float = 30.0) -> Self:
        """A context whose secrets come from the same folder and environment."""
        return cls(folder, environ, SecretResolver(folder, environ), filter_timeout)
