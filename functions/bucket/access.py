"""The access to a bucket that holds a spool; each cloud's `open_spool` makes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from functions.bucket.store import ObjectStore
from functions.bucket.sweep import Notify
from functions.delivery.events import DeliveryEvents
from functions.delivery.receipts import Receipts


@dataclass(frozen=True, slots=True)
class SpoolAccess:
    """The bucket, the prefix of its keys, and `notify`, which sends the function a notification for
    each key. `receipts(observer, lasting)` opens the receipts of runs that last at most that many
    seconds. It raises ConfigError if the outputs need a store of receipts that the configuration does
    not name."""

    store: ObjectStore
    prefix: str
    notify: Notify
    receipts: Callable[[DeliveryEvents, float], Receipts]


class ForeignMessage(ValueError):
    """The message names no mail of this spool; `str()` says why. A retry never helps."""
