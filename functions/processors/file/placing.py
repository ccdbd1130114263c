"""Puts a mail into a folder under its final name: whole, once, and never over another file.

There are two ways. Each has a step that is atomic on disk and leaves a trace that shows whether the
step was taken, so an attempt after a crash neither loses nor repeats the file:

- *copy*: the mail is written to a hidden temporary, which is linked to the final name. The
  temporary has a second link exactly when that was done.
- *link*: the spool's own file gets two hidden links, first `.body`, then `.seal`. `.body` is moved
  to the final name. A seal without a body means that this was done. (The spool's file has other
  links, so their number shows nothing here.)

The traces stay until the receipt is durable.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from functions.errors import Damaged
from functions.message.mail import Mail
from functions.processors.base import FolderLimit
from functions.processors.file.cleanup import probe_name
from functions.processors.file.content import FileBytes, write_all
from functions.processors.file.fsync import sync
from functions.processors.file.mode import make_readable
from functions.processors.file.names import last_taken, names_of
from functions.processors.file.owned import Describer
from functions.processors.file.placed import (
    CREATE,
    FILE_MODE,
    Directory,
    PlacedFile,
    fault,
    remove,
)
from functions.processors.file.rename import NO_LINKS, NotSupported, link_once, rename_exclusively
from functions.processors.file.unnamed import give_name, open_unnamed
from functions.processors.file.written import WrittenFile

FOLDER_MODE: Final = 0o755

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_PASSING: Final = _FULL | {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_HELD: Final = 32  # subfolders that are held open
_SEARCHED: Final = 256  # names among which the file of an earlier attempt is searched
_FICLONE: Final = 0x40049409  # ioctl_ficlone(2)


class TargetFolder:
    """A folder for mails. `staging`, if given and on the same file system, keeps the temporaries;
    otherwise they are hidden files of the folder itself. Without `durable`, `fsync` does nothing. With
    `raw_headers` the envelope's fields come on top; with a `limit` the files are recorded. May be used
    by several threads and processes at once."""

    def __init__(
        self,
        folder: Path,
        staging: Path | None = None,
        *,
        durable: bool = True,
        raw_headers: bool = False,
        limit: FolderLimit | None = None,
    ) -> None:
        self.folder = folder
        self._root = str(folder)
        self._staging = staging
        self._durable = durable
        self.limit = limit
        describer = None if limit is None else Describer(limit.root)
        self._as_sent = not raw_headers and limit is None
        self._bytes = partial(FileBytes, raw_headers=raw_headers, describer=describer)
        self._temporaries = ""
        self._can_link = True
        self._can_clone = True
        self._can_be_unnamed = True
        self._directories: dict[str, Directory] = {}
        self._names = names_of(self._root)

    def prepare(self) -> None:
        """Make the folder and choose the place of the temporaries. Raises Temporary."""
        try:
            self._temporaries = self._choose()
        except OSError as error:
            raise fault(error, f"{self._root} cannot be used") from error

    def check(self) -> None:
        """Make the folder, and make and remove a file in it. Raises OSError for a lasting fault; a full
        disk and the like pass, and mails are tried again meanwhile."""
        try:
            self._make(self._root)
            probe = f"{self._root}/{probe_name()}"
            os.close(os.open(probe, CREATE, FILE_MODE))
            os.unlink(probe)  # noqa: PTH108
        except OSError as error:
            if error.errno not in _PASSING:
                raise

    def place(self, mail: Mail, flow: str, name: str, key: str, *, shared: bool = False) -> PlacedFile:
        """Store the mail of this flow's outputs under `name`, or under `name-1`, `name-2` … if that is
        in use. `key` tells the outputs of one mail apart. The spool's own file is linked, unless it is
        `shared`: then other outputs have yet to read it, and the consumer of a linked file may change
        it. Raises Temporary, and Permanent if an earlier attempt's file cannot be written again because
        the spool's copy is damaged."""
        content = self._bytes(mail, flow)
        try:
            if self._temporaries:
                try:
                    return self._land(content, name, key, shared)
                except FileNotFoundError:
                    pass
            # The first mail, or the folder was removed since, for example by a test suite that
            # cleaned up.
            self._directories.clear()
            self._temporaries = self._choose()
            return self._land(content, name, key, shared)
        except OSError as error:
            raise fault(error, f"{self._root} cannot take the file {name!r}") from error

    def place_whole(self, mail: Mail, flow: str, name: str, *, shared: bool = False) -> str | None:
        """Store a mail that no spool has, like `place`, but in one step that leaves no trace. Returns the
        file's path; None if the file system has no such step. A file of the listener's own is moved, unless
        it is `shared`. Raises Temporary."""
        try:
            try:
                return self._place_whole(mail, flow, name, shared)
            except FileNotFoundError:
                self._make(str(self._folder_of(name)))
                return self._place_whole(mail, flow, name, shared)
        except OSError as error:
            raise fault(error, f"{self._root} cannot take the file {name!r}") from error

    def _place_whole(self, mail: Mail, flow: str, name: str, shared: bool) -> str | None:
        source = mail.content.path
        if source is not None and not shared and self._can_link and self._bytes(mail, flow).as_spooled:
            own = os.fspath(source)
            make_readable(own)
            try:
                return self._place(name, lambda path: rename_exclusively(own, path))
            except NotSupported:
                self._can_link = False
        if not self._can_be_unnamed:
            return None
        try:
            fd = open_unnamed(f"{self._root}/{name}".rpartition("/")[0] if "/" in name else self._root)
            try:
                if source is None and self._as_sent:  # most mails
                    write_all(fd, mail.raw(flow))
                elif source is None or not self._clone(fd, self._bytes(mail, flow)):
                    self._bytes(mail, flow).write(fd)
                return self._names.place(name, partial(give_name, fd))
            finally:
                os.close(fd)
        except NotSupported:
            self._can_be_unnamed = False
            return None

    def taken(self, mail: Mail, flow: str, key: str) -> PlacedFile | None:
        """The spool's own file as an earlier attempt placed it, with any change of its consumer; None
        if there is none. All names of the file system are then made durable, because the file's name
        may come from the consumer's change. Raises Temporary."""
        try:
            seal = f"{self._temporaries or self._choose()}/.{mail.id}.{key}.seal"
            if mail.stored.path is None or _is_there(f"{seal[:-5]}.body"):
                return None
            try:
                if not os.path.samefile(seal, mail.stored.path):  # noqa: PTH121
                    return None
            except FileNotFoundError:
                return None
            if self._durable:
                Directory(self.folder).sync_file_system()
        except OSError as error:
            raise fault(error, f"{self._root} cannot be flushed") from error
        content = self._bytes(mail, flow)
        return PlacedFile(self.folder, None, content, seal, seal, time.monotonic(), linked=True)

    def _land(self, content: FileBytes, name: str, key: str, shared: bool) -> PlacedFile:
        mail = content.mail
        trace = f"{self._temporaries}/.{mail.id}.{key}"
        source = mail.content.path
        tried = not mail.received_here  # perhaps: a mail received here is at its first attempt
        if tried and _is_there(f"{trace}.seal") and not _is_there(f"{trace}.body"):
            return self._again(content, f"{trace}.seal", name)
        if source is not None and self._can_link and not shared and content.as_spooled:
            if not (tried and _is_there(f"{trace}.tmp")):
                try:
                    return self._by_link(content, os.fspath(source), trace, name)
                except NotSupported:
                    self._can_link = False
        elif source is not None and tried:
            # An earlier attempt may have linked. The seal goes first, because alone it would say
            # that the file was placed.
            remove(f"{trace}.seal")
            remove(f"{trace}.body")
        try:
            return self._by_copy(content, trace, name)
        except OSError as error:
            if error.errno != errno.EXDEV or self._temporaries == self._root:
                raise
        # A subfolder is on another file system than the staging folder.
        self._staging, self._temporaries = None, self._root
        return self._by_copy(content, f"{self._root}/.{mail.id}.{key}", name)

    def begin(self, mail: Mail, flow: str, name: str, key: str) -> WrittenFile | None:
        """Write the temporary for the `place` of a mail in memory that was not tried before. None if there
        is none: `place` then makes it, or tells why."""
        if not self._temporaries:
            return None
        temporary = f"{self._temporaries}/.{mail.id}.{key}.tmp"
        try:
            return self._write(self._bytes(mail, flow), temporary, name)
        except OSError:
            return None

    def _by_copy(self, content: FileBytes, trace: str, name: str) -> PlacedFile:
        temporary = f"{trace}.tmp"
        try:
            written = self._write(content, temporary, name)
        except FileExistsError:
            if os.stat(temporary).st_nlink > 1:  # noqa: PTH116
                return self._again(content, temporary, name)
            # A power loss may have torn the file, or its sync failed: place another file.
            os.unlink(temporary)  # noqa: PTH108
            written = self._write(content, temporary, name)
        return written.finish()

    def _write(self, content: FileBytes, temporary: str, name: str) -> WrittenFile:
        at, directory = time.monotonic(), self._directory(name)
        self._write_new(os.open(temporary, CREATE, FILE_MODE), temporary, content)
        name_it = partial(self._names.place, name, partial(self._put, partial(self._link, temporary)))
        return WrittenFile(self._folder_of(name), directory, content, temporary, at, name_it)

    def _by_link(self, content: FileBytes, source: str, trace: str, name: str) -> PlacedFile:
        at, directory = time.monotonic(), self._directory(name)
        body, seal = f"{trace}.body", f"{trace}.seal"
        link_once(source, body)
        link_once(source, seal)
        make_readable(body)
        content.is_in(body)
        try:
            placed = self._place(name, lambda path: rename_exclusively(body, path))
        except NotSupported:
            remove(seal)
            remove(body)
            raise
        return PlacedFile(self._folder_of(name), directory, content, placed, seal, at, linked=True)

    def _again(self, content: FileBytes, trace: str, name: str) -> PlacedFile:
        """An earlier attempt placed the file, and its sync, or the power, may have failed: write the
        file anew in its place."""
        source = content.mail.stored.path
        linked = source is not None and os.path.samefile(trace, source)  # noqa: PTH121
        placed = self._find(trace, name)
        directory = self._directory(name)
        folder, at = self._folder_of(name), time.monotonic()
        found = PlacedFile(folder, directory, content, placed, trace, at, linked=linked)
        found.rewrite(torn=True)
        return found

    def _find(self, trace: str, name: str) -> str:
        """The path where the file of a trace was placed: `name` if it is not found."""
        path = f"{self._root}/{name}"
        file = os.stat(trace)  # noqa: PTH116
        stem, ending = os.path.splitext(path)  # noqa: PTH122
        last = last_taken(stem, ending)
        numbered = (f"{stem}-{n}{ending}" for n in range(last, max(0, last - _SEARCHED), -1))
        for each in (path, *numbered):
            with suppress(FileNotFoundError, NotADirectoryError):
                if os.path.samestat(os.stat(each), file):  # noqa: PTH116
                    return each
        return path

    def _directory(self, name: str) -> Directory | None:
        """The folder of that name, held open from before a file is placed there."""
        if not self._durable:
            return None
        below = os.path.dirname(name) if "/" in name else ""  # noqa: PTH120
        held = self._directories.get(below)
        if held is None or held.moved:
            folder = self._folder_of(name)
            self._make(str(folder))
            held = Directory(folder)
            while len(self._directories) >= _HELD:
                self._directories.pop(next(iter(self._directories)), None)
            self._directories[below] = held
        return held

    def _write_new(self, fd: int, temporary: str, content: FileBytes) -> None:
        try:
            try:
                if self._clone(fd, content):
                    content.is_in(fd)
                else:
                    content.write(fd)
            finally:
                os.close(fd)
        except (OSError, Damaged):
            remove(temporary)  # frees room on a full disk
            raise

    def _clone(self, fd: int, content: FileBytes) -> bool:
        """Make the new file share the blocks of the spool's file, if the file system can do that."""
        if content.mail.content.path is None or not self._can_clone or not content.as_spooled:
            return False
        with content.mail.stored.open() as source:  # no bytes pass here: its size was checked before
            try:
                fcntl.ioctl(fd, _FICLONE, source.fileno())
            except OSError as error:
                if error.errno in _PASSING:
                    raise
                self._can_clone = False
        return self._can_clone

    def _link(self, temporary: str, path: str) -> None:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # No hard links here (FAT, some network and container mounts). The name is taken first
            # and filled by the move; only a crash between the two can leave an empty file.
            try:
                rename_exclusively(temporary, path)
            except NotSupported:
                os.close(os.open(path, CREATE, FILE_MODE))
                try:
                    os.replace(temporary, path)  # noqa: PTH105
                except OSError:
                    remove(path)
                    raise

    def _place(self, name: str, put: Callable[[str], None]) -> str:
        """Put the file under the first free name, and return its path."""
        return self._names.place(name, partial(self._put, put))

    def _put(self, put: Callable[[str], None], path: str) -> bool:
        try:
            try:
                put(path)
            except FileNotFoundError:
                self._make(os.path.dirname(path))  # noqa: PTH120
                self._directories.clear()
                put(path)
        except FileExistsError:
            return False
        return True

    def _folder_of(self, name: str) -> Path:
        return self.folder / os.path.dirname(name) if "/" in name else self.folder  # noqa: PTH120

    def _choose(self) -> str:
        self._make(self._root)
        if self._staging is None:
            return self._root
        probe = probe_name()
        staged, placed = f"{self._staging}/{probe}", f"{self._root}/{probe}"
        try:
            os.close(os.open(staged, CREATE, FILE_MODE))
            try:
                os.link(staged, placed)
                os.unlink(placed)  # noqa: PTH108
            finally:
                os.unlink(staged)  # noqa: PTH108
        except OSError as error:
            if error.errno in _PASSING:
                raise
            # Another file system, or no hard links. st_dev would not tell: bind mounts share it.
            return self._root
        return str(self._staging)

    def _make(self, folder: str) -> None:
        missing: list[str] = []
        at = folder
        while at and not os.path.isdir(at):  # noqa: PTH112
            missing.append(at)
            at = os.path.dirname(at)  # noqa: PTH120
        for path in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(path, FOLDER_MODE)  # noqa: PTH102
            if self._durable:
                sync(os.path.dirname(path))  # noqa: PTH120


def _is_there(path: str) -> bool:
    return os.access(path, os.F_OK)
