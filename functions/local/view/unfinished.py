"""The mails that the spool still delivers, whose stored files nothing may delete."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from functions.backends import open_queue
from functions.config import DeliveryConfig
from functions.local.view.queue import FolderQueue
from functions.spool.queue import MailQueue


class Unfinished(NamedTuple):
    """The mails that the spool still delivers: their ids, and when the oldest was received (Unix
    seconds)."""

    ids: frozenset[str]
    oldest: float

    def holds(self, mail_id: str, time: float) -> str:
        """Why a retry may write the stored file of a mail again; "" if none can. `time` is the file's
        (Unix seconds), `mail_id` is "" for a file that does not tell."""
        if mail_id in self.ids:
            return "is still being delivered, and a retry would store it again: wait until it is finished"
        if not mail_id and time >= self.oldest - 2:
            return (
                "does not tell its id, and may be one of the mails that are still being delivered: wait until"
                " these are finished, or write ids with addRawHeaders"
            )
        return ""


def unfinished_mails(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> Unfinished:
    """Those of the configuration's spool; `folder` is the working folder. Raises DeliveryFault if the spool
    cannot be read."""
    return _of(open_queue(config, folder, environ))


def unfinished_in(root: Path) -> Unfinished:
    """Those of the spool folder `root`. Raises DeliveryFault if it cannot be read."""
    return _of(FolderQueue(root))


def _of(queue: MailQueue) -> Unfinished:
    waiting = list(queue.ids(parked=False))
    oldest = min((received / 1000 for _, received in waiting), default=float("inf"))
    return Unfinished(frozenset(mail_id for mail_id, _ in waiting), oldest)
