"""Stores accepted mails before the client gets its 250."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from functions.local.messages import Item, SpoolReply, discard
from functions.local.service import LocalDelivery
from functions.message.envelope import Envelope
from functions.message.mail import Content
from listener.api.decision import Reply
from listener.intake.captures import Captures


class Answered(Protocol):
    """Gets the reply for a mail's client. `files` are those that `file` outputs made of the mail so far."""

    def __call__(self, reply: Reply, files: Sequence[str] = ()) -> None: ...


PROBE: Final = ".probe-"
"""Prefix of the files that test if the spool is writable."""


class Spool(Protocol):
    """The listener's side of a spool. All methods are called in the event loop."""

    capture_folder: Path
    """The folder for mails that are too large for memory while they arrive."""

    captures: Captures
    """The mails that arrive, and what they hold together."""

    min_free: int
    """Bytes that must stay free on its disk."""

    @property
    def hashes(self) -> bool:
        """True if every mail must come with its hash. It does not change."""

    def store(self, envelope: Envelope, content: Content, answered: Answered) -> None:
        """Make a mail durable, then call `answered` once with the reply for its client: 250 when it is
        safe. Continues after the client leaves. Owns the content's file from here."""

    def tick(self) -> None:
        """The server calls this each second."""

    def full(self) -> bool:
        """True if there is too little room for another mail (452)."""

    async def probe(self) -> None:
        """Raise if the spool is not writable."""

    async def stop(self, timeout: float) -> None:
        """Finish the current work, within this number of seconds."""


class LocalSpool:
    """A folder; `functions.local.service` stores and delivers."""

    def __init__(
        self,
        delivery: LocalDelivery,
        folder: Path,
        capture: Path,
        min_free: int,
        deliveries: Sequence[LocalDelivery] = (),
    ) -> None:
        self.delivery = delivery
        self._deliveries = deliveries
        """All parts that this process runs, including those that it only delivers."""
        self.capture_folder = capture
        self.captures = Captures(capture)
        self._folder = folder
        self.min_free = min_free
        self._full = False

    @property
    def hashes(self) -> bool:
        # Without durability most mails go to their outputs without a copy that could be damaged.
        return self.delivery.settings.durable

    def store(self, envelope: Envelope, content: Content, answered: Answered) -> None:
        tried = self.delivery.unspooled(envelope, content)
        if tried is not None and not tried.outcomes:
            if content.path is not None:
                discard(content)
            answered(Reply(250, "2.0.0", f"OK queued as {envelope.id}"), tried.files)
            return
        if content.path is None and not envelope.sha256:
            envelope = envelope.hashed(hashlib.sha256(content.read()).hexdigest())
        outcomes = () if tried is None else tried.outcomes
        self.delivery.submit(Item(envelope, content, partial(_tell, answered), tried=outcomes))

    def tick(self) -> None:
        self.delivery.tick()
        try:
            room = os.statvfs(self._folder)
        except OSError:
            return
        missing = self.min_free - room.f_bavail * room.f_frsize
        self._full = missing > 0 and not self.captures.make_room(missing)

    def full(self) -> bool:
        return self._full

    async def probe(self) -> None:
        if self._full or not all(one.healthy for one in (self.delivery, *self._deliveries)):
            raise OSError("the last write to the spool failed or its disk is full")
        await asyncio.to_thread(self._touch)

    def _touch(self) -> None:
        path = self._folder / f"{PROBE}{os.getpid()}"
        path.write_bytes(b"")
        path.unlink()

    async def stop(self, timeout: float) -> None:
        await self.delivery.stop(timeout)


def _tell(answered: Answered, answer: SpoolReply) -> None:
    answered(Reply(*answer), answer.files)
