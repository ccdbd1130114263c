"""The consumers of delivered files: they delete, move, empty and change them."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.campaign.numbered_mails import id_of, letter, number_of
from tests.support.mails.stored import strip_added_fields

_PAUSE: Final = 0.002

_OURS: Final = b"x-smtp-relay: "


@dataclass
class Shelf:
    """One output's folder as its consumer knows it."""

    folder: Path
    taken: list[tuple[int, str]] = field(default_factory=list)
    """Number and id of the mails that were deleted after they were read."""
    changed: dict[str, tuple[int, str]] = field(default_factory=dict)
    """The same by the names of files that were emptied or written to. After a crash they may be whole
    again, because a torn file looks the same."""
    wrong: list[str] = field(default_factory=list)

    @property
    def moved(self) -> Path:
        """The folder to which files are moved, in the same file system."""
        return self.folder.with_name(f"{self.folder.name}-moved")

    @property
    def count(self) -> int:
        """How many files were taken or changed."""
        moved = len(list(self.moved.iterdir())) if self.moved.exists() else 0
        return len(self.taken) + len(self.changed) + moved

    def ids(self) -> set[str]:
        """The ids of all that was taken or changed."""
        moved = [id_of(path.read_bytes()) for path in self.moved.iterdir()] if self.moved.exists() else []
        return {mail_id for _, mail_id in (*self.taken, *self.changed.values())} | set(filter(None, moved))

    def take(self, moments: random.Random) -> None:
        """Do something to each file in the folder."""
        self.moved.mkdir(exist_ok=True)
        for path in self._files():
            stored = path.read_bytes()
            number, mail_id = number_of(stored), id_of(stored)
            at = stored.find(_OURS)
            if (
                number is None
                or mail_id is None
                or at < 0
                or strip_added_fields(stored[at:]) != letter(number)
            ):
                self.wrong.append(
                    f"{self.folder.name}/{path.name}, as its consumer found it: {stored[:200]!r}"
                )
                continue
            match moments.choice(("delete", "move", "empty", "change")):
                case "delete":
                    path.unlink()
                    self.taken.append((number, mail_id))
                case "move":
                    path.rename(self.moved / path.name)
                case "empty":
                    self.changed[path.name] = (number, mail_id)
                    os.truncate(path, 0)
                case "change":
                    self.changed[path.name] = (number, mail_id)
                    with path.open("ab") as file:
                        file.write(b"seen\r\n")

    def _files(self) -> Iterator[Path]:
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name not in self.changed:
                    yield Path(entry.path)


@contextmanager
def hungry(shelves: list[Shelf], seed: str) -> Iterator[None]:
    """During the block consumers take the files that come. Raises AssertionError if one finds less than
    a whole mail, or fails."""
    stop = threading.Event()
    wrong: list[BaseException] = []

    def work(shelf: Shelf) -> None:
        moments = random.Random(f"{seed} {shelf.folder.name}")
        try:
            while not stop.is_set():
                with suppress(FileNotFoundError):  # written anew, and missing for a moment from this list
                    shelf.take(moments)
                time.sleep(_PAUSE)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(shelf,), daemon=True) for shelf in shelves]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not wrong, wrong
