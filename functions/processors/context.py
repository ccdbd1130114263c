"""What an output's `build()` is given besides its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The surroundings of one process's outputs.

    `working_folder` is absolute; relative paths of options start there. `durable` asks for fsync before
    the receipt (`spool.durability`). `staging` is a folder of the local spool where outputs may keep
    temporary files, None where there is no local spool. `resolve_secret` turns a secret option as
    written (`env:NAME`, `file://PATH`, `ssm:/name` … or the text itself) into its value; it raises
    ConfigError where that cannot be had.
    """

    working_folder: Path
    durable: bool
    staging: Path | None
    resolve_secret: Callable[[str], str]
