"""The arguments of an output's `build()` besides its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The surroundings of one process's outputs.

    `working_folder` is absolute; relative paths of options start there. `durable` asks for fsync
    before the receipt (`spool.durability`). `staging` is a folder of the local spool where outputs
    may keep temporary files, None if there is no local spool. `resolve_secret` turns a secret
    option as written (`env:NAME`, `file://PATH`, `ssm:/name` … or the text itself) into its value;
    it raises ConfigError if the value is not available.
    """

    working_folder: Path
    durable: bool
    staging: Path | None
    resolve_secret: Callable[[str], str]
