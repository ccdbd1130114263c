"""What the building of a filter may lean on besides its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from functions.options.secrets import SecretResolver


@dataclass(frozen=True, slots=True)
class BuildContext:
    """Handed to every filter's `build(options, name, context)`.

    `folder` is the absolute working folder that relative paths of the configuration start from,
    `environ` the environment at start, `secrets` what `Secret.resolve` takes. `filter_timeout` is
    how many seconds a filter may take to answer.
    """

    folder: Path
    environ: Mapping[str, str]
    secrets: SecretResolver
    filter_timeout: float = 30.0

    @classmethod
    def of(cls, folder: Path, environ: Mapping[str, str], filter_timeout: float = 30.0) -> Self:
        """A context whose secrets come from the same folder and environment."""
        return cls(folder, environ, SecretResolver(folder, environ), filter_timeout)
