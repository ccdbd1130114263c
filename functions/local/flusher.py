"""Making delivered files durable before their mails leave the spool, off the answering path."""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

from functions.local.messages import DoneMail, Finished
from functions.processors.base import Landed

log = logging.getLogger("smtp_relay.delivery")

MANY: Final = 16
"""From so many mails on, one syncfs costs less than an fsync each (0.2 ms each, measured)."""


GATHER: Final = 0.05
"""Seconds to wait for more: nobody is waiting for a flush."""


class Flusher:
    """A thread that flushes what landed, as much as waits at once, and reports it done.

    Clients were answered before: the mail is in the spool until its delivery is durable.
    """

    _STOP: ClassVar[object] = object()

    def __init__(self, report: Callable[[Finished], None]) -> None:
        self._report = report
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool-flusher", daemon=True)
        self._thread.start()

    def put(self, done: Finished) -> None:
        """Take mails whose outputs are all done."""
        self._queue.put(done)

    def stop(self) -> None:
        """End the thread after what it has."""
        self._stopped.set()
        self._queue.put(self._STOP)
        self._thread.join(5)

    def _run(self) -> None:
        while (first := self._queue.get()) is not self._STOP:
            mails, stopped = list(first.mails), False
            traces = first.traces
            # Each flush costs the disk a round, however much it takes along.
            self._stopped.wait(GATHER)
            while not self._queue.empty():
                message = self._queue.get()
                if message is self._STOP:
                    stopped = True
                    break
                mails += message.mails
                traces = traces or message.traces
            self._flush(mails)
            self._report(Finished(mails, traces))
            if stopped:
                return

    def _flush(self, mails: list[DoneMail]) -> None:
        while True:
            try:
                folders = {folder for _, _, landed in mails for each in landed if (folder := _folder(each))}
                known = all(_folder(each) for _, _, landed in mails for each in landed)
                if not (known and len(mails) >= MANY and _sync_filesystems(folders)):
                    for _, _, landed in mails:
                        for each in landed:
                            each.flush()
            except Exception:
                # The mails stay in the spool and are delivered already: only their removal waits.
                log.exception("delivered files could not be flushed")
                time.sleep(1)
                continue
            return


def _folder(landed: Landed) -> Path | None:
    folder: Path | None = getattr(landed, "folder", None)
    return folder


_libc = ctypes.CDLL(None, use_errno=True)


def _sync_filesystems(folders: set[Path]) -> bool:
    """syncfs(2) on the file systems of these folders; False where there is no such call."""
    if not hasattr(_libc, "syncfs"):
        return False
    for folder in folders:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            # Somebody removed the folder since: there is nothing left to make durable.
            continue
        try:
            if _libc.syncfs(fd) != 0:
                raise OSError(ctypes.get_errno(), f"syncfs of {folder} failed")
        finally:
            os.close(fd)
    return True
