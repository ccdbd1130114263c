"""Deletes stored mails: the file of one flow, and only if no retry writes it again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from functions.errors import ConfigError
from functions.local.view.unfinished import unfinished_in
from listener.config.inbox_folders import InboxFolder
from listener.inbox.deliveries import TURN
from listener.inbox.entry import witness_of
from listener.inbox.index import Index
from listener.inbox.mailbox import Row

PATIENCE: Final = 3.0
"""Seconds to wait for deliveries that are about to be finished."""

_PAUSE: Final = 0.05
"""Seconds between two looks into the spool, which tells of no end of a delivery."""


class Deleted(NamedTuple):
    """The mails that are gone, and why the first of the others is not; "" if all are gone."""

    gone: list[Row]
    kept: str


class Deleter:
    """Deletes mails of these places, whose deliveries are in the spool folder `spool`."""

    def __init__(self, index: Index, places: Iterable[InboxFolder], spool: Path) -> None:
        self._index = index
        self._places = tuple(places)
        self._spool = spool

    def delete(self, rows: Iterable[Row]) -> Deleted:
        """Remove the files of mails. A mail whose delivery goes on keeps its file. Raises DeliveryFault if
        the spool cannot be read: then nothing is deleted."""
        left = list(rows)
        gone: list[Row] = []
        why = ""
        end = time.monotonic() + PATIENCE
        while left:
            with TURN:
                unfinished = unfinished_in(self._spool)
            held = [row for row in left if unfinished.holds(row.mail_id, row.created / 1_000)]
            free = {row.id for row in left} - {row.id for row in held}
            for row in left:
                if row.id in free:
                    reason = self._remove(row)
                    why = why or reason
                    if not reason:
                        gone.append(row)
            left = held
            if left and time.monotonic() >= end:
                reason = unfinished.holds(left[0].mail_id, left[0].created / 1_000)
                why = f"{left[0].id}: {reason}" if reason else why
                break
            if left:
                time.sleep(_PAUSE)
        self._index.drop(row.path for row in gone)
        return Deleted(gone, why)

    def _remove(self, row: Row) -> str:
        """Unlink the file; why not, or "" if it is gone."""
        place = next((one for one in self._places if one.folder.inside(row.path) is not None), None)
        if place is None:
            return f"{row.id}: is not in a folder of the inbox"
        try:
            if witness_of(os.lstat(row.path)) != row.witness:
                return f"{row.id}: its file was changed meanwhile"
            place.folder.remove(row.path)
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{row.id}: cannot be deleted: {error.strerror or error}"
        except ConfigError as error:
            return f"{row.id}: {error}"
        return ""
