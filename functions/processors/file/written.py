"""A temporary that holds a whole mail and has yet to get the mail's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from functions.processors.file.content import FileBytes
from functions.processors.file.placed import Directory, PlacedFile, remove


class WrittenFile:
    """The file is `temporary`; `name_it` gives it its other name and returns that path. `folder`,
    `directory`, `content` and `at` are those of `PlacedFile`."""

    __slots__ = ("_at", "_content", "_directory", "_folder", "_name_it", "_temporary")

    def __init__(
        self,
        folder: Path,
        directory: Directory | None,
        content: FileBytes,
        temporary: str,
        at: float,
        name_it: Callable[[], str],
    ) -> None:
        self._folder = folder
        self._directory = directory
        self._content = content
        self._temporary = temporary
        self._at = at
        self._name_it = name_it

    def finish(self) -> PlacedFile:
        """Name the file. Raises OSError, and the temporary is gone then."""
        try:
            placed = self._name_it()
        except OSError:
            remove(self._temporary)
            raise
        return PlacedFile(self._folder, self._directory, self._content, placed, self._temporary, self._at)

    def discard(self) -> None:
        """Remove the file."""
        remove(self._temporary)
