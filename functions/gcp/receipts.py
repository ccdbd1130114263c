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
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from functions.bucket.runner import JSON
from functions.delivery.events import DeliveryEvents
from functions.delivery.receipts import ABANDONED, Done, Later, Receipts, Tell, busy, claim_left
from functions.errors import DeliveryFault, Temporary
from functions.gcp.store import GcsStore
from functions.message.mail import Mail
from functions.spool.object import receipt_prefix

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


class GcsReceipts(Receipts):
    """The receipts in the spool's own bucket. `lasting` is the longest that a run may take, in seconds."""

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
        super().__init__(give_up_doubts=give_up_doubts, observer=observer)
        self._store = store
        self._prefix = prefix
        self._lasting = lasting
        self._clock = clock

    def _place(self, mail: Mail, key: str) -> str:
        return self._prefix + receipt_prefix(mail.id) + key

    def _claim(self, key: str, tell: Tell, later: Later) -> Done | int:
        """The generation of this run's claim."""
        mine = Claim(uuid.uuid4().hex, self._clock() + self._lasting + GRACE)
        generation = self._store.create_generation(f"{key}.claim", mine.encode(), JSON)
        if generation is None:
            found = self._store.read_with_generation(f"{key}.claim")
            if found is None:
                raise busy(1.0)  # another run deleted it just now
            other, generation = Claim.decode(found[0]), found[1]
            if other.run != mine.run:  # else this run made it, and the answer to its upload was lost
                done = self._found(key)
                if done is not None:
                    return done
                generation = self._take_over(key, mine, other, generation, tell, later)
                # The late run may have ended in between.
                return self._found(key) or generation
        return generation

    def _take_over(
        self, key: str, mine: Claim, other: Claim, generation: int, tell: Tell, later: Later
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
            raise busy(min(left, _LONGEST_WAIT))
        if self._give_up_doubts and tell is not None:
            tell(ABANDONED)
            later.append(partial(self._give_back, key, generation))
            raise Temporary(ABANDONED, in_doubt=True)
        taken = self._store.replace_generation(f"{key}.claim", mine.encode(), JSON, generation)
        if taken is None:
            raise busy(1.0)
        if tell is not None:
            tell(ABANDONED)
        return taken

    def _done(self, key: str, result: str | None) -> None:
        body = json.dumps({"result": result, "at": int(self._clock() * 1000)}).encode()
        self._store.create(f"{key}.done", body, JSON)

    def _give_back(self, key: str, claim: Any) -> None:
        try:
            self._store.delete_generation(f"{key}.claim", claim)
        except DeliveryFault as fault:
            claim_left(key, fault.reason)

    def _found(self, key: str) -> Done | None:
        data = self._store.read(f"{key}.done")
        if data is None:
            return None
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        return Done(found.get("result") if isinstance(found, dict) else None)
