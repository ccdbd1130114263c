"""A file that a `file` output placed, known so well that retention removes this file and no other."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, NamedTuple

_NOT_HERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class OwnedFile(NamedTuple):
    """`root` is the real path of the output's folder, `folder` that of the file's own one, below it.
    `witness` tells the file and its folder from others: their inodes, its size and its time of change.
    (The number of a device is another one after a restart.)"""

    root: bytes
    folder: bytes
    name: bytes
    witness: str
    size: int


def witness_of(found: os.stat_result) -> str:
    """Tells a file from others, and from itself after a change."""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"


class Describer:
    """Describes the files of one output, whose folder has the real path `root`. Belongs to one thread."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._known: tuple[tuple[str, int, int], bytes | None] = (("", 0, 0), None)

    def describe(self, path: str, witness: str) -> OwnedFile | None:
        """The file placed as `path`; None if its folder is gone, or a link led out of the output's."""
        folder, name = os.path.split(path)
        try:
            found = os.stat(folder)  # noqa: PTH116
        except OSError:
            return None
        here = (folder, found.st_dev, found.st_ino)
        if self._known[0] != here:
            real = os.fsencode(os.path.realpath(folder))
            self._known = here, real if _is_below(real, self._root) else None
        real_folder = self._known[1]
        if real_folder is None:
            return None
        size = int(witness.split()[1])
        return OwnedFile(self._root, real_folder, os.fsencode(name), f"{found.st_ino} {witness}", size)


class Look:
    """Looks at files and removes them, the files of one folder after another. It follows no link, and
    lists no folder. Close it at the end."""

    def __init__(self) -> None:
        self._folder: bytes | None = None
        self._fd = -1
        self._inode = self._device = 0

    def is_there(self, file: OwnedFile) -> bool:
        """False if the file is gone, was changed, or its name belongs to another file now. Raises
        OSError if this cannot be known now."""
        try:
            if self._folder != file.folder:
                self._open(file.folder)
            found = os.stat(file.name, dir_fd=self._fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NOT_HERE:
                return False
            raise
        same = f"{self._inode} {witness_of(found)}" == file.witness
        return same and stat.S_ISREG(found.st_mode) and found.st_dev == self._device

    def remove(self, file: OwnedFile) -> bool:
        """Remove the file; False if it `is_there` no more. Raises OSError."""
        if not self.is_there(file):
            return False
        try:
            os.unlink(file.name, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        """Close the folder."""
        self._folder = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, folder: bytes) -> None:
        self.close()
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(self._fd)
        self._inode, self._device = found.st_ino, found.st_dev
        self._folder = folder


def _is_below(folder: bytes, root: bytes) -> bool:
    return folder == root or folder.startswith(root.rstrip(b"/") + b"/")
