"""A file with bytes before it, as one seekable stream, because SDKs read bodies twice."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO


class PrefixedFile(io.BufferedReader):
    """Reads `prefix`, then the file. Closing it closes the file. Memory does not grow with the file."""

    def __init__(self, prefix: bytes, file: Path | BinaryIO) -> None:
        stream = file.open("rb", buffering=0) if isinstance(file, Path) else file
        super().__init__(_Raw(prefix, stream), 262_144)


class _Raw(io.RawIOBase):
    def __init__(self, prefix: bytes, file: BinaryIO | io.FileIO) -> None:
        self._prefix = prefix
        self._file = file
        self._size = len(prefix) + file.seek(0, io.SEEK_END)
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
            count = self._file.readinto(view) or 0  # type: ignore[union-attr]
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
