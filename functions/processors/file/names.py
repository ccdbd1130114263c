"""The free names of a folder: a file whose name is in use becomes `name-1`, `name-2` …"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

_NAMES: Final = 1_024  # taken names whose last suffix is remembered
_MOMENT: Final = 0.02  # seconds for which a used name is not tried again


class Names:
    """The last suffixes of one folder's names. The outputs of all flows that store into the folder share
    them (`names_of`): all get the same name for a mail, and each would search for the free suffix. May be
    used by several threads at once."""

    __slots__ = ("__weakref__", "_latest", "_root", "_suffixes")

    def __init__(self, root: str) -> None:
        self._root = root
        self._suffixes: dict[str, int] = {}
        self._latest = "", -1, 0.0
        """The latest name, its last suffix (0: none) and when it was used."""

    def place(self, name: str, put: Callable[[str], bool]) -> str:
        """Put a file under the first free name, and return its path. `put` gets a path, and returns False
        if that is in use."""
        path = f"{self._root}/{name}"
        now = time.monotonic()
        latest, number, at = self._latest
        if name != latest or now - at > _MOMENT:
            if put(path):
                self._suffixes.pop(name, None)
                self._latest = name, 0, now
                return path
            number = self._suffixes.get(name, -1)
        stem, ending = os.path.splitext(path)  # noqa: PTH122
        if number < 0:
            number = last_taken(stem, ending)
        number += 1
        while not put(f"{stem}-{number}{ending}"):
            number += 1
        if len(self._suffixes) >= _NAMES:
            self._suffixes.clear()
        self._suffixes[name] = number
        self._latest = name, number, now
        return f"{stem}-{number}{ending}"


_shared: Final[WeakValueDictionary[str, Names]] = WeakValueDictionary()


def names_of(root: str) -> Names:
    """The names of that folder, the same object for all its outputs in this process."""
    return _shared.setdefault(root, Names(root))


def last_taken(stem: str, ending: str) -> int:
    """A suffix that is in use while the next is free, found by doubling and halving, because thousands
    of files of one name may exist already."""

    def taken(number: int) -> bool:
        return os.path.lexists(f"{stem}-{number}{ending}")

    free = 1
    while taken(free):
        free *= 2
    last = free // 2
    while free - last > 1:
        middle = (free + last) // 2
        last, free = (middle, free) if taken(middle) else (last, middle)
    return last
