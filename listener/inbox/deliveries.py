"""What became of a mail at each output of its flow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from functions.local.view.queue import FolderQueue
from listener.config.inbox_folders import InboxFolder
from listener.inbox.mailbox import Row, go_time


class Deliveries:
    """Looks into the spool folder `spool`. `outputs` are the labels of each flow's outputs."""

    def __init__(
        self, places: Iterable[InboxFolder], outputs: Mapping[str, tuple[str, ...]], spool: Path
    ) -> None:
        self._places = tuple(places)
        self._outputs = outputs
        self._spool = spool

    def of(self, row: Row) -> list[dict[str, Any]]:
        """The state of each output of the flow that stored this mail: `delivered`, `waiting` or `dead`. No
        other flow is told of. Raises DeliveryFault if the spool cannot be read."""
        flow = next((one.flow for one in self._places if one.folder.inside(row.path) is not None), "")
        queue = FolderQueue(self._spool)
        waiting = next((one for one in queue.mails([row.mail_id]) if one.state == "waiting"), None)
        failed = {one.output: one for one in waiting.failures if one.flow == flow} if waiting else {}
        dead = {one.output: one for one in queue.buried(row.mail_id) if one.flow == flow}
        begun = waiting is not None and bool(waiting.attempts) and not waiting.under_way
        found = []
        for label in self._outputs.get(flow, ()):
            state: dict[str, Any] = {"Output": label, "State": "delivered", "Reason": "", "Next": None}
            if waiting is not None and (label in failed or not (begun or label in dead)):
                state |= {"State": "waiting", "Next": go_time(waiting.next) if waiting.next else None}
                state["Reason"] = failed[label].reason if label in failed else ""
            elif label in dead:
                state |= {"State": "dead", "Reason": dead[label].reason}
            found.append(state)
        return found

    def retry(self, row: Row) -> bool:
        """Try again what was given up of this mail's flow, and now what waits. Returns False if there is no
        such thing, as at the second of two calls. Raises DeliveryFault if the spool cannot be read."""
        flow = next((one.flow for one in self._places if one.folder.inside(row.path) is not None), "")
        queue, letters = FolderQueue(self._spool), FolderDeadLetters(self._spool)
        tried = False
        for record in queue.buried(row.mail_id):
            if record.flow == flow:
                try:
                    letters.replay(record, now=True)
                except Permanent:
                    continue
                tried = True
        return bool(queue.retry([row.mail_id])) or tried
