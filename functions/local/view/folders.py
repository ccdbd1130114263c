"""The folders of `file` outputs: which files are there, and which are new.

A folder is read again only if its own time of change shows that a name came or went, so waiting for
a mail among 10,000 costs one stat(2) of each folder at a time.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from functions.config import DeliveryConfig
from functions.errors import ConfigError

_DEPTH: Final = 16
_SETTLED: Final = 0.1
"""Seconds after which a folder's time of change is believed: two changes may share one time."""


class Found(NamedTuple):
    """A file: `mtime` is its last change, `came` when it got its name, if the file system tells (Unix
    seconds). `trusted` says that its output writes the envelope on top."""

    path: Path
    mtime: float
    came: float
    trusted: bool


class Folder:
    """The folder of one or several `file` outputs, with the folders that file names may make in it."""

    def __init__(self, path: Path, *, trusted: bool) -> None:
        self.path = path
        self.trusted = trusted
        self._times: dict[Path, tuple[int, float]] = {}
        self._seen: dict[Path, dict[str, int]] = {}
        self._inner: dict[Path, list[Path]] = {}
        self._gone: list[Path] = []

    def scan(self) -> Iterator[Found]:
        """Every file, and everything else that is not a folder. An unreadable folder counts as empty."""
        yield from self._files(self.path, _DEPTH, only_new=False)

    def scan_new(self) -> Iterator[Found]:
        """The files since the last call."""
        yield from self._files(self.path, _DEPTH, only_new=True)

    @property
    def folders(self) -> list[Path]:
        """This folder and those in it, as `scan_new` found them."""
        return list(self._times)

    def take_gone(self) -> list[Path]:
        """The files that `scan_new` found gone, or replaced by others, since the last call of this."""
        gone, self._gone = self._gone, []
        return gone

    def _files(self, folder: Path, depth: int, *, only_new: bool) -> Iterator[Found]:
        if only_new and not self._changed(folder):
            # A folder's time does not show what came into the folders in it.
            for inner in self._inner.get(folder, ()):
                yield from self._files(inner, depth - 1, only_new=True)
            return
        inner_folders: list[Path] = []
        before, here = self._seen.get(folder, {}), dict[str, int]()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue  # temporaries
                    here[entry.name] = entry.inode()
                    if only_new and before.get(entry.name) == here[entry.name]:
                        continue
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            del here[entry.name]
                            inner_folders.append(folder / entry.name)
                            continue
                        about = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue  # it is gone
                    came = max(about.st_mtime, about.st_ctime)
                    yield Found(folder / entry.name, about.st_mtime, came, self.trusted)
        except OSError:
            self._times.pop(folder, None)
            here, inner_folders = {}, []
        if only_new:
            self._gone += [folder / name for name, inode in before.items() if here.get(name) != inode]
            if here:
                self._seen[folder] = here
            else:
                self._seen.pop(folder, None)
            for inner in set(self._inner.get(folder, ())).difference(inner_folders):
                self._forget(inner)
            if inner_folders and depth:
                self._inner[folder] = inner_folders
            else:
                self._inner.pop(folder, None)
        if depth:
            for inner in inner_folders:
                yield from self._files(inner, depth - 1, only_new=only_new)

    def _forget(self, folder: Path) -> None:
        """A folder is gone, with the files and folders that it held."""
        for inner in self._inner.pop(folder, ()):
            self._forget(inner)
        self._gone += [folder / name for name in self._seen.pop(folder, {})]
        self._times.pop(folder, None)

    def _changed(self, folder: Path) -> bool:
        """True if names may have come or gone since the last call."""
        now = time.time()
        try:
            changed = os.stat(folder, follow_symlinks=folder == self.path).st_mtime_ns  # noqa: PTH116 - pathlib's is slower, and each look has one for each folder
        except OSError:
            self._times.pop(folder, None)
            return folder in self._seen
        before = self._times.get(folder)
        self._times[folder] = changed, now
        return before is None or before[0] != changed or before[1] - changed / 1e9 < _SETTLED

    def inside(self, path: Path) -> tuple[str, ...] | None:
        """The names that lead from this folder to a path, None if it is elsewhere. Links above the folder
        count as what they lead to, links below it do not."""
        try:
            parent = Path(os.path.realpath(self.path))
            given = Path(os.path.normpath(path.absolute()))
            for top in (self.path, parent):
                whole = Path(os.path.normpath(top.absolute()))
                if given != whole and given.is_relative_to(whole):
                    return given.relative_to(whole).parts
        except (OSError, ValueError):
            pass
        return None

    def remove(self, path: Path) -> None:
        """Unlink one regular file of this folder, through no link. Raises OSError, and ConfigError for a
        path elsewhere."""
        names = self.inside(path)
        if names is None:
            raise ConfigError(str(path), "is not in a folder of a file output")
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names[:-1]:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = inner
            about = os.stat(names[-1], dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISREG(about.st_mode):
                raise OSError(0, "is not a regular file", str(path))
            os.unlink(names[-1], dir_fd=fd)
        finally:
            os.close(fd)


def folders_of(config: DeliveryConfig, working_folder: Path) -> tuple[Folder, ...]:
    """The folders of the configuration's outputs that keep mail on this machine. A folder's envelopes are
    believed only if all its outputs write them."""
    trusted: dict[Path, bool] = {}
    for flow in config.flows.values():
        for output in flow.outputs:
            if output.file_folder is not None:
                path = Path(os.path.normpath(working_folder / output.file_folder))
                # Every field is asked by its name, because plugins' outputs have others.
                writes = dict(output).get("add_raw_headers") is True
                trusted[path] = trusted.get(path, True) and writes
    return tuple(Folder(path, trusted=writes) for path, writes in trusted.items())
