"""Receipts on Google Cloud: a claim and a done object for each effect (docs/reliability.md).

Below `receipts/H/ID/` of the spool bucket there are two objects, both created only if they do not
exist:

- `KEY.claim`: a run performs the effect until `deadline`. The run deletes the claim if the effect
  fails, and leaves it otherwise.
- `KEY.done`: the effect took place; it holds the provider's answer.

A claim whose deadline passed was left by a run that ended without a result. Another run takes it
over by its generation: of several that try, one succeeds. Because claims stay, the run that creates
one is the first, and need not look for the done object. So an effect costs two small uploads.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from functions.bucket.runner import ABANDONED, JSON, Later, tell_doubt
from functions.delivery.engine import Task, output_key
from functions.delivery.events import DeliveryEvents
from functions.errors import DeliveryFault, Temporary
from functions.gcp.store import GcsStore
from functions.message.mail import Mail
from functions.processors.base import Once, shown, took_place
from functions.spool.object import receipt_prefix

log: Final = logging.getLogger("smtp_relay.delivery")

GRACE: Final = 60.0
"""Seconds that a claim outlives the run that made it, because Cloud Run's time-out ends the request and
not the code, and clocks differ."""

_LONGEST_WAIT: Final = 600.0
_LONGEST_RUN: Final = 3_600.0  # most seconds that Cloud Run gives a request


@dataclass(frozen=True, slots=True)
class Claim:
    """The content of a claim object: the run that made it, and its deadline (Unix seconds)."""

    run: str
    deadline: float

    def encode(self) -> bytes:
        return json.dumps({"run": self.run, "deadline": self.deadline}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Claim:
        """The content of an object; an unreadable one is a claim that ran out."""
        try:
            found = json.loads(data)
            return cls(str(found["run"]), float(found["deadline"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return cls("", 0.0)


class GcsReceipts:
    """`functions.bucket.runner.Receipts` in the spool's own bucket.

    `lasting` is the longest that a run may take, in seconds; `give_up_doubts` is `onDoubt:
    "dead-letter"`.
    """

    def __init__(
        self,
        store: GcsStore,
        prefix: str,
        *,
        lasting: float,
        give_up_doubts: bool = False,
        observer: DeliveryEvents | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._lasting = lasting
        self._give_up_doubts = give_up_doubts
        self._observer = observer or DeliveryEvents()
        self._clock = clock

    def once(self, mail: Mail, task: Task, later: Later) -> Once:
        """Receipts of one output."""

        def run(part: str, effect: Callable[[], str | None]) -> str | None:
            assert task.output is not None  # an unknown flow has no effects
            label = task.output.label
            about = {"id": mail.id, "flow": task.flow, "output": label}
            key = output_key(mail.envelope, task.flow, task.output.identity, part)
            result = self.run(
                self._prefix + receipt_prefix(mail.id) + key,
                effect,
                tell=partial(tell_doubt, self._observer, mail, task, part),
                later=later,
            )
            if took_place(result):
                log.info("output done", extra=about | {"part": part, "provider_id": shown(result)})
            return result

        return run

    def run(
        self, key: str, effect: Callable[[], str | None], *, tell: Callable[[str], None], later: Later
    ) -> str | None:
        """`functions.processors.base.Once` for the receipt under `key`. It calls `tell` with the reason
        if more is in doubt than the effect itself says; `later` is that of
        `functions.bucket.runner.Receipts`."""
        mine = Claim(uuid.uuid4().hex, self._clock() + self._lasting + GRACE)
        generation = self._store.create_generation(f"{key}.claim", mine.encode(), JSON)
        if generation is None:
            found = self._store.read_with_generation(f"{key}.claim")
            if found is None:
                raise _busy(1.0)  # another run deleted it just now
            other, generation = Claim.decode(found[0]), found[1]
            if other.run != mine.run:  # else this run made it, and the answer to its upload was lost
                done = self._done(key)
                if done is not None:
                    return done.get("result")
                generation = self._take_over(key, mine, other, generation, tell, later)
                # The late run may have ended in between.
                done = self._done(key)
                if done is not None:
                    return done.get("result")
        return self._carry_out(key, effect, generation, tell, later)

    def _take_over(
        self, key: str, mine: Claim, other: Claim, generation: int, tell: Callable[[str], None], later: Later
    ) -> int:
        """Take an abandoned claim over, and return its new generation. Raises Temporary if it is not
        abandoned, or if repeating must not resolve the doubt."""
        left = other.deadline - self._clock()
        if left > _LONGEST_RUN + GRACE:
            # No run lasts so long: another clock made that deadline. The store knows the claim's
            # age.
            times = self._store.times(f"{key}.claim")
            left = _LONGEST_RUN + GRACE - (0.0 if times is None else times.now - times.modified)
        if left > 0:
            raise _busy(min(left, _LONGEST_WAIT))
        if self._give_up_doubts:
            tell(ABANDONED)
            later.append(partial(self._give_back, key, generation))
            raise Temporary(ABANDONED, in_doubt=True)
        taken = self._store.replace_generation(f"{key}.claim", mine.encode(), JSON, generation)
        if taken is None:
            raise _busy(1.0)
        tell(ABANDONED)
        return taken

    def _carry_out(
        self,
        key: str,
        effect: Callable[[], str | None],
        generation: int,
        tell: Callable[[str], None],
        later: Later,
    ) -> str | None:
        try:
            result = effect()
        except Exception as fault:
            if self._give_up_doubts and isinstance(fault, Temporary) and fault.in_doubt:
                # The dead record describes the effect once it is written; a replay begins anew.
                later.append(partial(self._give_back, key, generation))
            else:
                self._give_back(key, generation)
            raise
        body = json.dumps({"result": result, "at": int(self._clock() * 1000)}).encode()
        try:
            self._store.create(f"{key}.done", body, JSON)
        except DeliveryFault as fault:
            # The claim stays: until it runs out, no other run repeats the effect.
            reason = f"no receipt could be written: {fault.reason}"
            tell(reason)
            later.append(partial(self._give_back, key, generation))
            raise Temporary(reason, in_doubt=True) from fault
        return result

    def _give_back(self, key: str, generation: int) -> None:
        """Delete the claim, so the next attempt need not wait for the deadline."""
        try:
            self._store.delete_generation(f"{key}.claim", generation)
        except DeliveryFault as fault:
            log.warning("a claim could not be released", extra={"key": key, "reason": fault.reason})

    def _done(self, key: str) -> dict[str, Any] | None:
        data = self._store.read(f"{key}.done")
        if data is None:
            return None
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        return found if isinstance(found, dict) else {}


def _busy(seconds: float) -> Temporary:
    return Temporary("another run works on it", enhanced="4.3.2", retry_after=seconds)
