"""The kinds of spools: which modules serve each scheme of `spool.url`.

A third cloud is one package and one row here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions.config import DeliveryConfig
from functions.errors import ConfigError
from functions.spool.deadletters import DeadLetters

if TYPE_CHECKING:
    from functions.spool.queue import MailQueue  # functions in a cloud never need it


class Backend(NamedTuple):
    """Modules of one kind of spool: `sweep` has sweep_once(), `dead_letters` has open_dead_letters(),
    `queue` has open_queue(), and `cloud`, for buckets, has open_spool(); all take (config, folder,
    environ)."""

    sweep: str
    dead_letters: str
    queue: str
    cloud: str = ""


def _bucket(cloud: str) -> Backend:
    return Backend("functions.bucket.sweep", "functions.bucket.deadletters", "functions.bucket.queue", cloud)


BACKENDS: Final[Mapping[str, Backend]] = {
    "file": Backend("functions.local.sweep", "functions.local.deadletters", "functions.local.view.queue"),
    "s3": _bucket("functions.aws.spool"),
    "gs": _bucket("functions.gcp.spool"),
}


class Swept(NamedTuple):
    """The result of one pass: the age in seconds of the oldest unfinished mail (None if there is none),
    the numbers of unfinished mails and dead records, and the number of mails for which a notification
    was sent again."""

    oldest: float | None
    unfinished: int
    dead: int
    notified: int


def sweep_once(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> Swept:
    """Make one pass over the spool; `folder` is the working folder. Raises ConfigError if the spool, or
    something needed to reach it, is missing, and Temporary or Permanent if the spool fails."""
    found: Swept = _call("sweep", "sweep_once", config, folder, environ)
    return found


def open_dead_letters(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> DeadLetters:
    """The dead letters of the configuration's spool; `folder` is the working folder. Raises ConfigError
    if the spool, or something needed to reach it, is missing."""
    found: DeadLetters = _call("dead_letters", "open_dead_letters", config, folder, environ)
    return found


def open_queue(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> MailQueue:
    """The mails of the configuration's spool; `folder` is the working folder. Raises ConfigError if
    something needed to reach the spool is missing."""
    found: MailQueue = _call("queue", "open_queue", config, folder, environ)
    return found


def open_spool(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> Any:
    """The `functions.bucket.access.SpoolAccess` of the configuration's bucket. Raises ConfigError if
    the spool is not a bucket or something needed to reach it is missing."""
    return _call("cloud", "open_spool", config, folder, environ)


def _call(field: str, function: str, config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> Any:
    name = getattr(BACKENDS[config.spool.scheme], field)
    try:
        module = importlib.import_module(name) if name else None
    except ImportError as error:
        raise ConfigError(
            "spool.url", f"{config.spool.url} is not available in this installation: {error}"
        ) from error
    if module is None:
        raise ConfigError("spool.url", f"{config.spool.url} is not a bucket")
    return getattr(module, function)(config, folder, environ)
