"""Receipts of the local spool: rows written before and after an effect (SPEC section 6)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from functions.delivery import Owed, output_key
from functions.errors import DeliveryFault, Temporary
from functions.folder import Part
from functions.mail import Mail
from functions.processors.base import shown

log = logging.getLogger("smtp_relay.delivery")

CLAIMED = "claimed"
DONE = "done"


class Receipts:
    """The receipts of one output of one mail; `processors.base.Once` for the local spool.

    A claim is durable before the effect and becomes done after it. A claim that is found means
    that the process died in between: the effect is in doubt, and is repeated or given up as
    `onDoubt` says.
    """

    __slots__ = ("_mail", "_owed", "_part", "_seq", "_write")

    def __init__(
        self,
        write: Callable[[str, tuple[Any, ...]], None],
        part: Part,
        mail: Mail,
        owed: Owed,
        seq: int,
    ) -> None:
        self._write = write
        self._part = part
        self._mail = mail
        self._owed = owed
        self._seq = seq

    def __call__(self, part: str, effect: Callable[[], str | None]) -> str | None:
        assert self._owed.output is not None
        key = output_key(self._mail.envelope, self._owed.flow, self._owed.output.identity, part)
        state, result = self._find(key)
        if state == DONE:
            return result
        if state is None:
            self._write(
                "INSERT OR REPLACE INTO receipt (key, seq, state) VALUES (?, ?, ?)", (key, self._seq, CLAIMED)
            )
        else:
            # Taken over before the next crash, whatever is decided now.
            self._write("DELETE FROM receipt WHERE key = ?", (key,))
            raise Temporary("an earlier run ended before it knew the outcome", in_doubt=True)
        try:
            result = effect()
        except DeliveryFault as fault:
            self._write("DELETE FROM receipt WHERE key = ?", (key,))
            raise fault
        self._write("UPDATE receipt SET state = ?, result = ? WHERE key = ?", (DONE, result, key))
        log.info(
            "output done",
            extra={
                "id": self._mail.id,
                "flow": self._owed.flow,
                "output": self._owed.output.label,
                "provider_id": shown(result),
            },
        )
        return result

    def _find(self, key: str) -> tuple[str | None, str | None]:
        with contextlib.closing(self._part.connect()) as db:
            row = db.execute("SELECT state, result FROM receipt WHERE key = ?", (key,)).fetchone()
        return row or (None, None)
