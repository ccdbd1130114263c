"""The arguments of an output's `build()` besides its options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from functions.options.secrets import Runtime


@dataclass(frozen=True, slots=True)
class BuildContext(Runtime):
    """The process's surroundings, and the spool's settings for outputs. `durable` asks for fsync before
    the receipt (`spool.durability`). `staging` is a folder of the local spool where outputs may keep
    temporary files, None if there is no local spool. `by_user` asks outputs that
    write the envelope on top for a folder of each SMTP user."""

    durable: bool = True
    staging: Path | None = None
    by_user: bool = False
