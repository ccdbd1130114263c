"""Retries the outputs that do not have a mail yet: what `deadletter replay` and `queue retry` do."""

from __future__ import annotations

from pathlib import Path

from functions.local.deadletters import replay_once
from functions.local.view.queue import FolderQueue
from functions.local.view.reader import parts_of
from listener.inbox.deliveries import TURN, Deliveries
from listener.inbox.mailbox import Row


class Retrier:
    """Retries mails in the spool folder `spool`."""

    def __init__(self, deliveries: Deliveries, spool: Path) -> None:
        self._deliveries = deliveries
        self._spool = spool

    def retry(self, row: Row) -> list[str]:
        """Replay the dead outputs of the flow that stored this mail, and make its waiting ones due now.
        Returns the labels of these outputs: of several requests at once, one gets a dead output and the
        others do not. Raises DeliveryFault if the spool cannot be read or written."""
        with TURN:
            return self._retry(row)

    def _retry(self, row: Row) -> list[str]:
        flow = self._deliveries.flow_of(row)
        queue = FolderQueue(self._spool)
        parts = parts_of(self._spool)
        waiting = [one["Output"] for one in self._deliveries.of(row) if one["State"] == "waiting"]
        dead = [one for one in queue.buried(row.mail_id) if one.flow == flow]
        replayed = [one.output for one in dead if replay_once(parts, one)]
        hurried = waiting if waiting and queue.retry([row.mail_id]) else []
        return [*replayed, *hurried]
