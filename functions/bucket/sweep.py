"""The sweep over a spool bucket: finds the mails that are due again, and counts."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from functions.backends import Swept, open_spool
from functions.bucket.marks import Marks, dead_name, spooled_id
from functions.bucket.store import ObjectInfo, ObjectStore
from functions.config import DeliveryConfig
from functions.errors import DeliveryFault
from functions.ids import uuid7_ms
from functions.processors.base import MIN_SECONDS_LEFT

log: Final = logging.getLogger("smtp_relay.sweep")

PERIOD: Final = 300.0
"""Seconds between sweeps."""

WINDOW: Final = 2 * PERIOD
"""Seconds that a sweep looks back, so the next sweep makes up for one that fails. A second notification
for a mail changes nothing."""

_STEPS: Final = (900, 1_800, 3_600, 7_200, 14_400, 28_800)
_THEN_EVERY: Final = 43_200

_SHARDS: Final = "0123456789abcdef"
_LISTERS: Final = 8
_FEW: Final = 2_000
_BATCH: Final = 100

Notify = Callable[[Sequence[str]], None]
"""Notifies the function of the mails under these keys. Raises DeliveryFault."""


def no_notification(keys: Sequence[str]) -> None:
    """The `notify` of a spool that a server delivers in-process. Other processes cannot notify that
    server; its own sweep finds unfinished mails within PERIOD."""


def times_due(age: float) -> int:
    """How often a notification should have been sent again for a mail of this age, in seconds."""
    if age < _STEPS[0]:
        return 0
    return sum(age >= step for step in _STEPS) + int(age // _THEN_EVERY)


def sweep(
    store: ObjectStore,
    prefix: str,
    notify: Notify,
    *,
    now: float,
    since: float,
    seconds_left: Callable[[], float],
) -> Swept:
    """One pass. Sends a notification for every unparked mail whose age passed one of the steps after
    `since`, and for replayed mails. Times are Unix seconds. Raises DeliveryFault.

    `unfinished` and `oldest` of the result count no parked mails: those wait for the operator, and
    are counted as dead.

    A clock that is behind delays nothing, because the store's time corrects it, and a mail is at
    least as old as its object.
    """
    marks: defaultdict[str, Marks] = defaultdict(Marks)
    for entry in _listed(store, f"{prefix}dead/"):
        name = dead_name(entry.key, prefix)
        if name is not None:
            marks[name[0]].add(name[1])
    dead = sum(len(each.dead) for each in marks.values())
    unfinished = notified = strangers = 0
    oldest: float | None = None
    waiting: list[str] = []
    behind = 0.0
    for key, _, modified in _listed(store, f"{prefix}spool/"):
        mail_id = spooled_id(key, prefix)
        if mail_id is None:
            strangers += 1
            continue
        mark = marks.get(mail_id)
        if mark is not None and mark.is_parked:
            continue
        if not unfinished:
            behind = _behind(store, key, now)
        received = min(modified, uuid7_ms(mail_id) / 1000) - behind
        unfinished += 1
        oldest = max(oldest or 0.0, now - received)
        if (mark is not None and mark.is_replayed) or times_due(now - received) > times_due(since - received):
            waiting.append(key)
    for at in range(0, len(waiting), _BATCH):
        if seconds_left() < MIN_SECONDS_LEFT:
            log.warning("the sweep ran out of time", extra={"left": len(waiting) - notified})
            break
        some = waiting[at : at + _BATCH]
        notify(some)
        notified += len(some)
    if strangers:
        log.warning("objects in the spool that are not mails", extra={"count": strangers})
    return Swept(oldest, unfinished, dead, notified)


def sweep_once(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> Swept:
    """One pass for `smtp-relay sweep`: counts the bucket's mails, and sends a notification for every
    mail that is older than the first step, because a person asks for a pass when the regular ones are
    not enough. A server that delivers in-process cannot be notified: its mails are only counted.
    Raises ConfigError, DeliveryFault."""
    access = open_spool(config, folder, environ)
    events = config.mode == "events"
    now = time.time()
    return sweep(
        access.store,
        access.prefix,
        access.notify if events else no_notification,
        now=now,
        since=-math.inf if events else now,
        seconds_left=lambda: math.inf,
    )


def _behind(store: ObjectStore, key: str, now: float) -> float:
    """Seconds by which this machine's clock is behind the store's, which gives its time with an object."""
    try:
        times = store.times(key)
    except DeliveryFault:
        return 0.0
    return 0.0 if times is None else max(0.0, times.now - now)


def _listed(store: ObjectStore, folder: str) -> list[ObjectInfo]:
    """All objects of a folder that has shards: by one listing while they are few, because listings
    cost, and by all shards side by side when they are many."""
    few = list(islice(store.list(folder), _FEW))
    if len(few) < _FEW:
        return few
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_LISTERS, thread_name_prefix="sweep") as pool:
        lists = pool.map(lambda shard: list(store.list(f"{folder}{shard}/")), _SHARDS)
        return [found for some in lists for found in some]
