"""What became of a mail at each output of its flow."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from functions.local.view.queue import FolderQueue
from listener.config.inbox_folders import InboxFolder
from listener.inbox.mailbox import Row, go_time

TURN: Final = threading.RLock()
"""Held by a thread while it reads or writes the spool: in one process SQLite shares its memory among
connections, so one that only reads would make another that writes fail."""


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
        with TURN:
            return self._of(row)

    def _of(self, row: Row) -> list[dict[str, Any]]:
        flow = self.flow_of(row)
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
            found.append(state | {"Sentence": _sentence(label, state)})
        return found

    def flow_of(self, row: Row) -> str:
        """The flow that stored this mail, "" if its folder is none of ours."""
        return next((one.flow for one in self._places if one.folder.inside(row.path) is not None), "")


def _sentence(label: str, state: Mapping[str, Any]) -> str:
    """Why an output does not have the mail, or that it has it."""
    reason = state["Reason"].rstrip(".")
    if state["State"] == "delivered":
        return f"{label} has the mail."
    if state["State"] == "dead":
        return f"{label} gave up: {reason}. Retry tries it again."
    then = f"the next attempt is at {state['Next']}" if state["Next"] else "the next attempt is due now"
    return f"{label} failed: {reason}; {then}." if reason else f"{label} does not have the mail yet; {then}."
