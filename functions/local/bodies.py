"""Large mails on their way into the spool: each is a file, which is durable before its row exists."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from functions.delivery.events import DeliveryEvents
from functions.local.commits import UNWRITABLE, Commits
from functions.local.layout import Part
from functions.local.messages import Item, SpoolReply
from functions.processors.file.fsync import renew_name, sync_failed, sync_file

log = logging.getLogger("smtp_relay.delivery")

FLUSHES: Final = 4
"""Large bodies made durable at once."""


class Bodies:
    """Makes them durable in its own threads, then hands the mails to the commits. All methods belong to
    the event loop."""

    def __init__(
        self,
        part: Part,
        commits: Commits,
        observer: DeliveryEvents,
        answer: Callable[[Item, SpoolReply], None],
    ) -> None:
        self._part = part
        self._commits = commits
        self._observer = observer
        self._answer = answer
        self._pool = ThreadPoolExecutor(FLUSHES, thread_name_prefix="spool-body")

    def add(self, item: Item, path: Path) -> None:
        """Take one mail whose content is in that file."""
        epoch = self._commits.epoch
        synced = asyncio.get_running_loop().run_in_executor(self._pool, _sync, path, epoch > 0)
        synced.add_done_callback(partial(self._synced, item, epoch))

    def stop(self) -> None:
        """Drop all bodies, and wait for none."""
        self._pool.shutdown(wait=False)

    def _synced(self, item: Item, epoch: int, synced: asyncio.Future[None]) -> None:
        error = synced.exception()
        # The kernel reports a folder's error to its first sync only: then no name in it is known to
        # be on the disk.
        if error is None and not item.cancelled and epoch == self._commits.epoch:
            self._commits.add(item)
            return
        if error is not None:
            extra = {"id": item.envelope.id, "reason": str(error)}
            log.error("a mail could not be made durable", extra=extra)
            self._observer.spool_error()
        if isinstance(error, OSError) and sync_failed(error):
            self._part.trust.lose()
            self._commits.distrust(error)
        item.discard()
        self._answer(item, UNWRITABLE)


def _sync(path: Path, again: bool) -> None:
    """Make a file durable. `again` says that a sync failed before, which may have lost its name."""
    if again:
        renew_name(path)
    sync_file(path)
