"""An http-filter endpoint's verdicts about recipients: the request at RCPT, and the recent answers."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from listener.api.decision import Decision
from listener.api.session import Session, Transaction

MOST: Final = 4_096
"""Verdicts that one filter of one process remembers; of more, the one that was not used for longest goes."""

SECONDS: Final = 60.0
"""Seconds for which a verdict counts. A recipient that the service adds is taken after that time at most."""


class RcptQuestion(NamedTuple):
    """All that the endpoint is told of a recipient, so equal questions may have the same answer."""

    listener: str
    client: str
    user: str | None
    reverse_path: str
    recipient: str

    @classmethod
    def of(cls, session: Session, transaction: Transaction, recipient: str) -> RcptQuestion:
        """The question about one RCPT."""
        return cls(session.listener, session.ip, session.user, transaction.reverse_path, recipient)

    def body(self, flow: str) -> bytes:
        """The request's JSON; its names are those of the event (docs/cloudevent.md)."""
        server: dict[str, Any] = {"remoteAddress": self.client}
        if self.user is not None:
            server["username"] = self.user
        return json.dumps(
            {
                "phase": "rcpt",
                "flow": flow,
                "listener": self.listener,
                "server": server,
                "envelope": {"from": self.reverse_path, "to": [self.recipient]},
            },
            separators=(",", ":"),
        ).encode()


class RecentVerdicts:
    """The decisions of the last minute, by question. A reload begins a new one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[RcptQuestion, tuple[float, Decision]] = OrderedDict()

    def get(self, question: RcptQuestion) -> Decision | None:
        """The decision, None if it is not known or too old."""
        made, decision = self._known.get(question, (0.0, None))
        if decision is None:
            return None
        if self._clock() - made >= SECONDS:
            del self._known[question]
            return None
        self._known.move_to_end(question)
        return decision

    def put(self, question: RcptQuestion, decision: Decision) -> None:
        """Remember a decision."""
        self._known[question] = self._clock(), decision
        self._known.move_to_end(question)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
