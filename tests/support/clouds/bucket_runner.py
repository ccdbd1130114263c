"""The runner of a bucket with outputs that fail on request, for tests of code that both clouds share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from functions.bucket.runner import BucketRunner, Run
from functions.delivery.engine import Delivery, Output, Task, output_key
from functions.delivery.receipts import Later
from functions.errors import DeliveryFault
from functions.message.envelope import Envelope
from functions.message.mail import Mail
from functions.processors.base import Job, Once, Processor
from tests.support.clouds.memory_store import MemoryStore
from tests.support.mails.spooled import MAIL, envelope_of, spool_object


class Scripted(Processor):
    """Fails as `faults` says, and counts effects by mail and replay."""

    def __init__(self) -> None:
        self.faults: list[DeliveryFault | None] = []
        self.always: DeliveryFault | None = None
        self.calls = 0
        self.effects: Counter[tuple[str, int]] = Counter()

    def process(self, job: Job) -> None:
        job.once("", lambda: self._effect(job.mail.envelope))

    def _effect(self, envelope: Envelope) -> str | None:
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else self.always
        if fault is not None:
            raise fault
        self.effects[envelope.id, envelope.replay] += 1
        return None


class MemoryReceipts:
    """`functions.delivery.receipts.Receipts`."""

    def __init__(self) -> None:
        self.done: set[str] = set()

    def once(self, mail: Mail, task: Task, later: Later) -> Once:
        assert task.output is not None or task.flow

        def run(part: str, effect: Callable[[], str | None]) -> str | None:
            assert task.output is not None
            key = output_key(mail.envelope, task.flow, task.output.identity, part)
            if key not in self.done:
                effect()
                self.done.add(key)
            return None

        return run


class Place:
    """A spool below `relay/` whose flow `in` has outputs a and b."""

    prefix = "relay/"

    def __init__(self, *, keep: bool = False, give_up_after: float = 259_200.0) -> None:
        self.now = 0.0
        self.ahead = 0.0
        """Seconds by which the provider's clock is ahead of this machine's."""
        self.store = MemoryStore(lambda: self.now + self.ahead)
        self.a, self.b = Scripted(), Scripted()
        outputs = [Output("a", "id-a", self.a), Output("b", "id-b", self.b)]
        self.receipts = MemoryReceipts()
        self.seconds_left = 1000.0
        self.notified: list[str] = []
        self.runner = BucketRunner(
            self.store,
            self.prefix,
            Delivery({"in": outputs}, give_up_after=give_up_after),
            self.receipts,
            keep=keep,
            clock=self.clock,
        )

    def clock(self) -> float:
        return self.now

    def put(self, content: bytes = MAIL, **about: Any) -> tuple[str, Envelope]:
        """Spool a mail now; the clock starts with the first one."""
        envelope = envelope_of(content, **about)
        self.now = self.now or envelope.received / 1000
        key, data = spool_object(envelope, content, self.prefix)
        assert self.store.create(key, data, "message/rfc822")
        return key, envelope

    def run(self, key: str, attempts: int = 0, *, stored: bool = False) -> Run:
        return self.runner.run(key, attempts=attempts, seconds_left=lambda: self.seconds_left, stored=stored)

    def notify(self, keys: Any) -> None:
        self.notified += keys

    def below(self, folder: str) -> list[str]:
        """The keys below a folder of the prefix, without the prefix."""
        return [key.removeprefix(self.prefix) for key in self.store.under(self.prefix + folder)]
