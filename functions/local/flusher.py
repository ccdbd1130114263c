"""Makes delivered files durable before their mails leave the spool, after the client has its reply."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, ClassVar, Final

from functions.delivery.engine import Outcome, State
from functions.errors import DeliveryFault, Permanent, Temporary
from functions.local.messages import DoneMail, Finished, Progress
from functions.message.mail import Mail
from functions.processors.base import Placed
from functions.processors.file.placed import CAN_SYNC_FILE_SYSTEMS, Directory

log = logging.getLogger("smtp_relay.delivery")

MANY: Final = 16
"""From this number of files on, a syncfs for each folder costs less than an fsync for each file (0.2 ms
each, measured): a mail that many flows take counts as often."""

GATHER: Final = 0.05
"""Seconds to wait for more mails, because no client waits for a flush."""

LONGEST: Final = 10.0
"""Seconds between two attempts to make a file durable; the first is GATHER."""

STUCK: Final = 1_000
"""Most mails that wait in memory for a failing disk."""


class Flusher:
    """A thread that makes placed files durable, all waiting ones at once, and reports them done.

    The clients have their replies: each mail is in the spool until its delivery is durable. A file
    that could not be made durable is written anew from the spool (`PlacedFile.fsync`). If the
    spool's copy is damaged, the output is given up with a dead record.
    """

    _STOP: ClassVar[object] = object()

    def __init__(self, report: Callable[[Finished | Progress], None]) -> None:
        self._report = report
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._failing = 0
        self._thread = threading.Thread(target=self._run, name="spool-flusher", daemon=True)
        self._thread.start()

    @property
    def stuck(self) -> bool:
        """True if so many mails wait for a failing disk that further ones are better left in the spool."""
        return bool(self._failing) and self._failing + self._queue.qsize() > STUCK

    def put(self, done: Finished) -> None:
        """Accept mails whose outputs are all done."""
        self._queue.put(done)

    def stop(self) -> None:
        """End the thread after its present mails; a mail that cannot be flushed stays in the spool."""
        self._stopped.set()
        self._queue.put(self._STOP)
        self._thread.join(5)

    def _run(self) -> None:
        mails: list[DoneMail] = []
        traces = stopped = False
        wait = GATHER
        while not stopped:
            waiting = [] if mails else [self._queue.get()]
            # Each flush costs the disk a round trip, however many mails it covers.
            self._stopped.wait(wait)
            while not self._queue.empty():
                waiting.append(self._queue.get())
            for message in waiting:
                if message is self._STOP:
                    stopped = True
                    continue
                mails += message.mails
                traces = traces or message.traces
            mails = self._flush(mails, traces)
            self._failing = len(mails)
            wait = min(2 * wait, LONGEST) if mails else GATHER
            traces = traces and bool(mails)

    def _flush(self, mails: list[DoneMail], traces: bool) -> list[DoneMail]:
        """Flush and report all mails that can be; returns the others."""
        files = sum(len(mail.placed) for mail in mails)
        done = _by_file_systems(mails) if files >= MANY and CAN_SYNC_FILE_SYSTEMS else []
        durable, left = {mail.seq for mail in done}, []
        for mail in mails:
            if mail.seq in durable:
                continue
            outcomes = [flushed(mail.mail, outcome) for outcome in mail.outcomes]
            if any(outcome.state is State.RETRY for outcome in outcomes):
                left.append(mail)
            elif all(outcome.state is State.DONE for outcome in outcomes):
                done.append(mail)
            else:
                self._report(Progress(mail.seq, mail.mail, 1, outcomes, parked=True))
        if done:
            self._report(Finished(done, traces))
        return left


def flushed(mail: Mail, outcome: Outcome) -> Outcome:
    """The outcome after the file is on the disk. A failed flush is retried; if the spool's copy is
    damaged, the output is given up."""
    if outcome.placed is None:
        return outcome
    fault: DeliveryFault
    try:
        outcome.placed.fsync()
    except Permanent as error:
        fault, state = error, State.DEAD
    except Exception as error:
        fault = error if isinstance(error, Temporary) else Temporary(f"cannot be flushed: {error}")
        state = State.RETRY
        if not isinstance(error, Temporary | OSError):
            log.exception("fault in a flush", extra={"id": mail.id})
    else:
        return outcome
    extra = {"id": mail.id, "output": outcome.label, "reason": fault.reason}
    log.error("a delivered file could not be made durable", extra=extra)
    return Outcome(outcome.task, state, fault)


def _by_file_systems(mails: list[DoneMail]) -> list[DoneMail]:
    """Sync the file systems of all placed files; returns the mails that are durable now."""
    synced: dict[Directory, bool] = {}
    for directory in {_directory(each) for mail in mails for each in mail.placed} - {None}:
        assert directory is not None
        try:
            synced[directory] = directory.sync_file_system()
        except OSError as error:
            extra = {"folder": str(directory.path), "reason": str(error)}
            log.error("delivered files could not be made durable: they are written anew", extra=extra)
    return [
        mail
        for mail in mails
        if all((found := _directory(each)) and synced.get(found) and not each.lost for each in mail.placed)  # type: ignore[attr-defined]
    ]


def _directory(placed: Placed) -> Directory | None:
    directory: Directory | None = getattr(placed, "directory", None)
    return directory
