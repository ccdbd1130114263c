"""Keeps the index equal to the folders: what comes or goes there does so in the inbox within a second."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from listener.config.inbox_folders import InboxFolder
from listener.inbox.entry import Entry, entry_of, witness_of
from listener.inbox.events import Event
from listener.inbox.index import Index
from listener.inbox.watching import FolderWatch

log = logging.getLogger("smtp_relay.inbox")

TICK: Final = 0.2
"""Seconds between two looks at the times of the folders, while mails arrive."""

IDLE: Final = 0.5
"""The same while the system tells of changes, because it does not tell of all."""

NICE: Final = 12
"""How much the thread stands back where others need the processor."""

_BATCH: Final = 50
_GROWING: Final = 2.0
"""Seconds after its last change for which a file that came by hand may still be written to."""


class Keeper:
    """One thread that looks at the folders. `tell` takes events, from that thread."""

    def __init__(
        self, index: Index, places: Iterable[InboxFolder], tell: Callable[..., None], *, by_user: bool
    ) -> None:
        self._index = index
        self._places = tuple(places)
        self._tell = tell
        self._by_user = by_user
        self._growing: dict[Path, tuple[InboxFolder, float]] = {}
        self._end = threading.Event()
        self._watch = FolderWatch()
        self._thread = threading.Thread(target=self._run, name="inbox-keeper", daemon=True)
        self.is_complete = threading.Event()
        self.on_removed: Callable[[], object] = lambda: None
        """Called when the index was removed, or the thread failed: both begin anew in another process."""

    def start(self) -> None:
        """Begin. `is_complete` is set when the index has all files that are there now."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._end.set()
        self._watch.wake()
        if self._thread.is_alive():
            self._thread.join()
        self._watch.close()

    def catch_up(self, *, quietly: bool = True) -> None:
        """Make the index equal to the folders, from any state of both; `quietly` tells no watcher."""
        for place in self._places:
            for _ in place.folder.scan_new():
                continue  # what comes from now on is found by `look`
            place.folder.take_gone()
        self._follow()
        known = self._index.known()
        there: set[bytes] = set()

        def changed() -> Iterator[tuple[InboxFolder, Path]]:
            for place in self._places:
                for found in place.folder.scan():
                    key = os.fsencode(found.path)
                    there.add(key)
                    if known.get(key) != _witness(found.path):
                        yield place, found.path

        self._add(changed(), quietly=quietly)
        if self._end.is_set():
            return  # not all files were seen
        gone = [Path(os.fsdecode(path)) for path in known.keys() - there]
        if quietly:
            self._index.drop(gone)
            self._index.forget_marks()
        elif gone:
            self._drop(gone)

    def look(self) -> None:
        """Take over what came or went since the last call."""
        found = [(place, one.path) for place in self._places for one in place.folder.scan_new()]
        gone = [path for place in self._places for path in place.folder.take_gone()]
        self._follow()
        if gone:
            self._drop(gone)
        self._take_written()
        self._add(iter([*found, *self._grown()]), quietly=False)

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # Linux has this for each thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            while not self._attempt(self.catch_up):
                if not self._index.is_current():
                    self.on_removed()
                    return
                if self._end.wait(1.0):
                    return
            self.is_complete.set()
            last, again = time.monotonic(), False
            while not self._end.is_set():
                happened = self._watch.wait(IDLE if self._watch.works and not self._growing else TICK)
                # One mail is shown at once, of many several at a time.
                self._end.wait(max(last + TICK - time.monotonic(), 0) if happened else 0)
                last = time.monotonic()
                if not self._index.is_current():
                    self.on_removed()
                    return
                again = again or self._watch.overflowed
                self._watch.overflowed = False
                # What was found and not written, or never told, is found only by comparing all.
                again = not self._attempt(partial(self.catch_up, quietly=False) if again else self.look)
        except Exception:  # the thread never ends without a line in the log
            log.exception("the inbox does not follow its folders any more, so it starts again")
            self.on_removed()

    def _attempt(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except (sqlite3.Error, OSError) as error:
            log.warning("the index of the inbox cannot be written: %s", error)
            return False
        return True

    def _add(self, found: Iterator[tuple[InboxFolder, Path]], *, quietly: bool) -> None:
        while batch := list(islice(found, _BATCH)):
            if self._end.is_set():
                return
            entries = [entry for place, path in batch if (entry := self._entry(place, path)) is not None]
            new = self._index.put(entries)
            if not quietly and entries:
                changed = {entry.inbox for entry in entries} - {entry.inbox for entry in new}
                self._tell(*(Event("new", entry.inbox, entry.id) for entry in new))
                self._tell(*(Event("prune", inbox) for inbox in sorted(changed)))

    def _entry(self, place: InboxFolder, path: Path) -> Entry | None:
        self._index.give_way()
        entry = entry_of(path, place.flow, place.folder.path, by_user=self._by_user)
        if entry is not None and not entry.is_ours and time.time() - entry.created / 1_000 < _GROWING:
            self._growing[path] = place, time.monotonic() + _GROWING
        return entry

    def _follow(self) -> None:
        self._watch.follow(path for place in self._places for path in place.folder.folders)

    def _take_written(self) -> None:
        """Look at the files that were written to."""
        written, self._watch.written = self._watch.written, set()
        for path in written:
            place = next(one for one in self._places if path.is_relative_to(one.folder.path))
            self._growing.setdefault(path, (place, 0.0))

    def _grown(self) -> list[tuple[InboxFolder, Path]]:
        """The files that were written to after they were read."""
        if not self._growing:
            return []
        known = self._index.known_of(self._growing)
        grown = []
        for path, (place, end) in list(self._growing.items()):
            if known.get(os.fsencode(path)) not in (None, _witness(path)):
                grown.append((place, path))
                self._growing[path] = place, time.monotonic() + _GROWING
            elif time.monotonic() > end:
                del self._growing[path]
        return grown

    def _drop(self, paths: Iterable[Path]) -> None:
        gone = self._index.drop(paths)
        if gone:
            self._tell(*(Event("delete", inbox, mail, {"ID": mail}) for mail, inbox in gone))


def _witness(path: Path) -> str:
    try:
        return witness_of(path.lstat())
    except OSError:
        return ""
