"""One pass over the spool, for mail that is due again (SPEC section 6): chosen by the spool."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from functions.config import DeliveryConfig
from functions.errors import ConfigError

HOMES: Final[Mapping[str, str]] = {
    "file": "functions.local.sweep",
    "s3": "functions.aws.sweep",
    "gs": "functions.gcp.sweep",
}
"""Spool scheme to the module whose `sweep_once(config, folder, environ) -> Swept` makes the pass."""


class Swept(NamedTuple):
    """What one pass found: the age in seconds of the oldest unfinished mail (None for none), how
    many mails are unfinished, how many records dead, and how many mails were rung again."""

    oldest: float | None
    unfinished: int
    dead: int
    rung: int


def sweep_once(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> Swept:
    """Make one pass; `folder` is the working folder. Raises ConfigError where the spool or what
    reaches it is missing, Temporary or Permanent where the spool fails."""
    try:
        home = importlib.import_module(HOMES[config.spool.scheme])
    except ImportError as error:
        raise ConfigError(
            "sweep", f"is not available for {config.spool.url} in this installation: {error}"
        ) from error
    found: Swept = home.sweep_once(config, folder, environ)
    return found
