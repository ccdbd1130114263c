"""A file with octets before it, as one seekable stream: SDKs read bodies twice."""

from __future__ import annotations

import io
import os
from pathlib import Path


class PrefixedFile(io.BufferedReader):
    """Reads `prefix`, then the file. Memory stays flat whatever the file's size."""

    def __init__(self, prefix: bytes, path: Path) -> None:
        super().__init__(_Raw(prefix, path), 262_144)


class _Raw(io.RawIOBase):
    def __init__(self, prefix: bytes, path: Path) -> None:
        self._prefix = prefix
        self._file = path.open("rb", buffering=0)
        self._size = len(prefix) + os.fstat(self._file.fileno()).st_size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        view = memoryview(buffer)
        if self._at < len(self._prefix):
            piece = self._prefix[self._at : self._at + len(view)]
            view[: len(piece)] = piece
            count = len(piece)
        else:
            self._file.seek(self._at - len(self._prefix))
            count = self._file.readinto(view) or 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
