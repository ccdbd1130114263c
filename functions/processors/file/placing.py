"""Putting a mail into a folder under its final name: whole, once, and never over another file.

Two ways, each with a step that is atomic on disk and leaves a trace that says whether it was taken,
so that an attempt after a crash neither loses nor repeats the file:

- *copy*: the mail is written to a hidden temporary, which is linked to the final name. The
  temporary has a second link exactly when that was done.
- *link*: the spool's own file gets two hidden links, first `.body`, then `.seal`. `.body` is moved to
  the final name. A seal without a body means that this was done. (The spool's file has other links,
  so their number says nothing here.)

The traces stay until the receipt is durable.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from functions.errors import Temporary
from functions.message.mail import Mail
from functions.processors.file.cleanup import probe_name
from functions.processors.file.rename import NotSupported, rename_exclusively

FILE_MODE: Final = 0o644
FOLDER_MODE: Final = 0o755

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_REWRITE: Final = os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_PASSING: Final = _FULL | {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
_SMALL: Final = 1_048_576  # octets of a mail that is written with one call
_NAMES: Final = 1_024  # taken names whose last suffix is remembered
_MOMENT: Final = 0.02  # seconds for which a name that was taken is not tried again


class Landing:
    """The file of one mail in its folder. `flush` and `settle` are those of `Landed`."""

    __slots__ = ("_sync", "_trace", "folder")

    def __init__(self, folder: Path, sync: tuple[str, ...], trace: str) -> None:
        self.folder = folder
        self._sync = sync
        self._trace = trace

    def flush(self) -> None:
        """fsync the file, unless it is the spool's own, and its folder. Raises Temporary. What
        somebody took away meanwhile needs no flushing."""
        try:
            for path in self._sync:
                with suppress(FileNotFoundError, NotADirectoryError):
                    sync(path)
        except OSError as error:
            raise fault(error, f"{self.folder} cannot be flushed") from error

    def settle(self) -> None:
        """Remove the trace. What cannot be removed is only litter."""
        _remove(self._trace)


class LandingFolder:
    """A folder where mails land. `staging`, where given and on the same file system, keeps the
    temporaries; else they are hidden files of the folder itself. Without `durable` flush does
    nothing. May be used by several threads and processes at once."""

    def __init__(self, folder: Path, staging: Path | None = None, *, durable: bool = True) -> None:
        self.folder = folder
        self._root = str(folder)
        self._staging = staging
        self._durable = durable
        self._temporaries = ""
        self._can_link = True
        self._suffixes: dict[str, int] = {}
        self._latest = "", -1, 0.0
        """The latest name, its last suffix (0: none) and when it was taken."""

    def prepare(self) -> None:
        """Make the folder and choose where the temporaries live. Raises Temporary."""
        try:
            self._temporaries = self._choose()
        except OSError as error:
            raise fault(error, f"{self._root} cannot be used") from error

    def land(self, mail: Mail, flow: str, name: str, key: str) -> Landing:
        """Store what this flow's outputs store under `name`, or under `name-1`, `name-2` … where
        that is taken. `key` tells the outputs of one mail apart. Raises Temporary."""
        try:
            if self._temporaries:
                with suppress(FileNotFoundError):
                    return self._land(mail, flow, name, key)
            # The first mail, or the folder went away since: a test suite cleaned up.
            self._temporaries = self._choose()
            return self._land(mail, flow, name, key)
        except OSError as error:
            raise fault(error, f"{self._root} cannot take the file {name!r}") from error

    def _land(self, mail: Mail, flow: str, name: str, key: str) -> Landing:
        trace = f"{self._temporaries}/.{mail.id}.{key}"
        source = mail.content.path
        if source is not None and self._can_link and not mail.flow_fields(flow):
            try:
                return self._by_link(os.fspath(source), trace, name)
            except NotSupported:
                self._can_link = False
        try:
            return self._by_copy(mail, flow, trace, name)
        except OSError as error:
            if error.errno != errno.EXDEV or self._temporaries == self._root:
                raise
        # A folder below is another file system than the staging one.
        self._staging, self._temporaries = None, self._root
        return self._by_copy(mail, flow, f"{self._root}/.{mail.id}.{key}", name)

    def _by_copy(self, mail: Mail, flow: str, trace: str, name: str) -> Landing:
        temporary = f"{trace}.tmp"
        try:
            fd = os.open(temporary, _CREATE, FILE_MODE)
        except FileExistsError:
            linked = _complete(temporary, mail, flow)
        else:
            linked = False
            _write_new(fd, temporary, mail, flow)
        # The temporary stands for the file as long as it has a link there.
        placed = temporary
        if not linked:
            try:
                placed = self._place(name, lambda path: self._link(temporary, path))
            except OSError:
                _remove(temporary)
                raise
        folder = self._folder_of(name)
        return Landing(folder, (placed, str(folder)) if self._durable else (), temporary)

    def _by_link(self, source: str, trace: str, name: str) -> Landing:
        body, seal = f"{trace}.body", f"{trace}.seal"
        fresh = _link_once(source, body)
        sealed = not _link_once(source, seal)
        if fresh and sealed:
            os.unlink(body)  # noqa: PTH108 - an earlier attempt moved its own
        else:
            mode = FILE_MODE & ~_umask
            if stat.S_IMODE(os.stat(body).st_mode) != mode:  # noqa: PTH116
                os.chmod(body, mode)  # noqa: PTH101
            try:
                self._place(name, lambda path: rename_exclusively(body, path))
            except NotSupported:
                _remove(seal)
                _remove(body)
                raise
        folder = self._folder_of(name)
        return Landing(folder, (str(folder),) if self._durable else (), seal)

    def _link(self, temporary: str, path: str) -> None:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # No hard links here (FAT, some network and container mounts). The name is taken first
            # and filled by the move; only a crash between the two can leave an empty file.
            try:
                rename_exclusively(temporary, path)
            except NotSupported:
                os.close(os.open(path, _CREATE, FILE_MODE))
                try:
                    os.replace(temporary, path)  # noqa: PTH105
                except OSError:
                    _remove(path)
                    raise

    def _place(self, name: str, put: Callable[[str], None]) -> str:
        """Put the file under the first free name, and return its path."""
        path = f"{self._root}/{name}"
        now = time.monotonic()
        latest, number, at = self._latest
        if name != latest or now - at > _MOMENT:
            if self._put(path, put):
                self._suffixes.pop(name, None)
                self._latest = name, 0, now
                return path
            number = self._suffixes.get(name, -1)
        stem, ending = os.path.splitext(path)  # noqa: PTH122
        if number < 0:
            number = _last_taken(stem, ending)
        number += 1
        while not self._put(f"{stem}-{number}{ending}", put):
            number += 1
        if len(self._suffixes) >= _NAMES:
            self._suffixes.clear()
        self._suffixes[name] = number
        self._latest = name, number, now
        return f"{stem}-{number}{ending}"

    def _put(self, path: str, put: Callable[[str], None]) -> bool:
        try:
            try:
                put(path)
            except FileNotFoundError:
                self._make(os.path.dirname(path))  # noqa: PTH120
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
        staged, landed = f"{self._staging}/{probe}", f"{self._root}/{probe}"
        try:
            os.close(os.open(staged, _CREATE, FILE_MODE))
            try:
                os.link(staged, landed)
                os.unlink(landed)  # noqa: PTH108
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


def fault(error: OSError, doing: str) -> Temporary:
    """What an operating system's refusal is to the delivery: 4.3.1 for a full disk (RFC 3463
    section 3.4), else 4.3.0."""
    code = errno.errorcode.get(error.errno or 0, "")
    enhanced = "4.3.1" if error.errno in _FULL else "4.3.0"
    return Temporary(f"{doing}: {error.strerror or error} {code}".rstrip(), enhanced=enhanced)


def sync(path: str) -> None:
    """fsync a file or a folder by its path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _last_taken(stem: str, ending: str) -> int:
    """A suffix that is taken while the next is free, found by doubling and halving: thousands of
    files of one name may be there from before."""

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


def _link_once(source: str, path: str) -> bool:
    """Whether the link was made now; False when it was there. Raises NotSupported where this
    cannot be linked."""
    try:
        os.link(source, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS or error.errno in (errno.EXDEV, errno.EMLINK):
            raise NotSupported from error
        raise
    return True


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108


def _write_new(fd: int, temporary: str, mail: Mail, flow: str) -> None:
    try:
        _write(fd, mail, flow)
    except OSError:
        _remove(temporary)  # a full disk wants its room back
        raise


def _write(fd: int, mail: Mail, flow: str) -> None:
    """Write all of the mail and close the file, which is at its start."""
    try:
        pieces = [mail.raw(flow)] if mail.content.size <= _SMALL else mail.chunks(flow)
        for piece in pieces:
            written = os.write(fd, piece)
            while written < len(piece):
                written += os.write(fd, memoryview(piece)[written:])
    finally:
        os.close(fd)


def _complete(temporary: str, mail: Mail, flow: str) -> bool:
    """Make sure that what an earlier attempt left holds the mail, and say whether it is linked.

    After a power loss it may be short or empty. Its links are to one file: mending it mends the
    final name too.
    """
    found = os.stat(temporary)  # noqa: PTH116
    with open(temporary, "rb") as stream:  # noqa: PTH123
        whole = _holds(stream, mail, flow)
    if not whole:
        _write(os.open(temporary, _REWRITE), mail, flow)
    return found.st_nlink > 1


def _holds(stream: BinaryIO, mail: Mail, flow: str) -> bool:
    return all(stream.read(len(piece)) == piece for piece in mail.chunks(flow)) and not stream.read(1)


def _read_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


_umask: Final = _read_umask()  # at import, when no other thread creates files
