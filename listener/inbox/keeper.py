"""Keeps the index equal to the folders: what comes or goes there does so in the inbox within a second."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from listener.config.inbox_folders import InboxFolder
from listener.inbox.entry import Entry, entry_of, witness_of
from listener.inbox.events import Event
from listener.inbox.index import Index

log = logging.getLogger("smtp_relay.inbox")

TICK: Final = 0.2
"""Seconds between two looks at the times of the folders."""

_BATCH: Final = 50
_GROWING: Final = 2.0
"""Seconds for which a file of somebody else may still be written to."""


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
        self._thread = threading.Thread(target=self._run, name="inbox-keeper", daemon=True)
        self.is_complete = threading.Event()
        self.on_removed: Callable[[], object] = lambda: None
        """Called when somebody removed the index, so that it has to be made again."""

    def start(self) -> None:
        """Begin. `is_complete` is set when the index has all files that are there now."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def catch_up(self) -> None:
        """Make the index equal to the folders, from any state of both."""
        known = self._index.known()
        there: set[bytes] = set()

        def changed() -> Iterator[tuple[InboxFolder, Path]]:
            for place in self._places:
                for found in place.folder.scan_new():
                    key = os.fsencode(found.path)
                    there.add(key)
                    if known.get(key) != _witness(found.path):
                        yield place, found.path

        self._add(changed(), quietly=True)
        self._index.drop(Path(os.fsdecode(path)) for path in known.keys() - there)
        self._index.forget_marks()

    def look(self) -> None:
        """Take over what came or went since the last call."""
        found = [(place, one.path) for place in self._places for one in place.folder.scan_new()]
        gone = [path for place in self._places for path in place.folder.take_gone()]
        if gone:
            self._drop(gone)
        self._add(iter([*found, *self._grown()]), quietly=False)

    def _run(self) -> None:
        try:
            while not self._attempt(self.catch_up):
                if self._end.wait(1.0):
                    return
            self.is_complete.set()
            while not self._end.wait(TICK):
                if not self._index.is_current():
                    self.on_removed()
                    return
                self._attempt(self.look)
        except Exception:
            log.exception("the inbox does not follow its folders any more")

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
            if not quietly and new:
                self._tell(*(Event("new", entry.inbox, entry.id) for entry in new))

    def _entry(self, place: InboxFolder, path: Path) -> Entry | None:
        entry = entry_of(path, place.flow, place.folder.path, by_user=self._by_user)
        if entry is not None and not entry.username and time.time() - entry.created / 1_000 < _GROWING:
            self._growing[path] = place, time.monotonic() + _GROWING
        return entry

    def _grown(self) -> list[tuple[InboxFolder, Path]]:
        """The files that were written to after they were read."""
        if not self._growing:
            return []
        known = self._index.known_of(self._growing)
        grown = []
        for path, (place, end) in list(self._growing.items()):
            if known.get(os.fsencode(path)) not in (None, _witness(path)):
                grown.append((place, path))
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
