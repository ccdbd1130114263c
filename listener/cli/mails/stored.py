"""The stored mails that the words of a command mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from functions.config import DeliveryConfig
from functions.errors import ConfigError
from functions.local.view.folders import Folder, Found, folders_of
from functions.local.view.stored import HEAD, StoredFile, id_at_top, id_in, read_stored
from listener.cli.mails.selecting import LATEST, ambiguous, is_path


class StoredMails:
    """The stored mails of a configuration's `file` outputs."""

    def __init__(self, folders: tuple[Folder, ...]) -> None:
        self.folders = folders

    @classmethod
    def of(cls, config: DeliveryConfig, working_folder: Path, instead: str | None = None) -> StoredMails:
        """`instead` is another folder than the configuration's. Raises ConfigError if no output stores
        files."""
        folders = folders_of(config, working_folder)
        if folders and instead:
            trusted = all(folder.trusted for folder in folders)
            return cls((Folder(Path(os.path.normpath(working_folder / instead)), trusted=trusted),))
        if not folders:
            raise ConfigError("mails", "the configuration has no file output", "name one with -c FILE")
        return cls(folders)

    def newest(self) -> list[Found]:
        """All files, the newest first."""
        found = [one for folder in self.folders for one in folder.scan()]
        return sorted(found, key=lambda one: (-one.mtime, one.path.name))

    def read(self, found: Found, most: int = HEAD) -> StoredFile:
        """One file of the folders."""
        return read_stored(found.path, trusted=found.trusted, most=most)

    def named(self, word: str, most: int = HEAD) -> list[StoredFile]:
        """The files that `latest`, the start of an id, or a path means: several for a mail that several
        outputs stored. Raises ConfigError if the word is the start of several ids."""
        if word != LATEST and is_path(word):
            path = Path(word)
            here = self.owner(path)
            return [read_stored(path, trusted=here is not None and here.trusted, most=most)] * _exists(path)
        files = self.newest()
        if word == LATEST:
            return [self.read(one, most) for one in files[:1]]
        found = list(self._with_id(files, word.lower()))
        ids = {one.id for one in found}
        if len(ids) > 1 and word.lower() not in ids:
            raise ambiguous(word, ids)
        exact = [one for one in found if one.id == word.lower()] or found
        return [read_stored(one.path, trusted=one.envelope is not None, most=most) for one in exact]

    def owner(self, path: Path) -> Folder | None:
        """The folder that a path is in, without following links below it."""
        return next((folder for folder in self.folders if folder.inside(path) is not None), None)

    def _with_id(self, files: list[Found], start: str) -> Iterator[StoredFile]:
        for one in files:
            mail_id = id_in(one.path.name)
            if one.trusted and not mail_id:
                mail_id = id_at_top(one.path)
            if mail_id and mail_id.startswith(start):
                yield self.read(one)


def _exists(path: Path) -> bool:
    return os.path.lexists(path)
