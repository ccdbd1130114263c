"""An object store in memory, with S3's promises and failures on request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from functions.bucket.store import ObjectInfo, Times
from functions.errors import Temporary


class MemoryStore:
    """`functions.bucket.store.ObjectStore`. It asks `fails` before each operation; `clock` is the
    provider's own."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, float] = {}
        self.clock = clock
        self.fails: Callable[[str, str], bool] = lambda verb, key: False
        self._lock = threading.Lock()

    def _check(self, verb: str, key: str) -> None:
        if self.fails(verb, key):
            raise Temporary(f"{verb} {key}: as ordered")

    def read(self, key: str, most: int | None = None) -> bytes | None:
        self._check("read", key)
        data = self.objects.get(key)
        return None if data is None else data[:most]

    def create(self, key: str, data: bytes, content_type: str) -> bool:
        self._check("create", key)
        with self._lock:
            if key in self.objects:
                return False
            self.objects[key] = data
            self.modified[key] = self.clock()
            return True

    def replace(self, key: str, data: bytes, content_type: str) -> None:
        self._check("replace", key)
        self.objects[key] = data
        self.modified[key] = self.clock()

    def delete(self, key: str) -> None:
        self._check("delete", key)
        self.objects.pop(key, None)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._check("list", prefix)
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield ObjectInfo(key, len(self.objects[key]), self.modified.get(key, self.clock()))

    def times(self, key: str) -> Times | None:
        self._check("times", key)
        return Times(self.modified[key], self.clock()) if key in self.objects else None

    def under(self, prefix: str) -> list[str]:
        """Keys below a prefix."""
        return [key for key in sorted(self.objects) if key.startswith(prefix)]
