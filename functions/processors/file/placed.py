"""A file that was placed, until it is durable, and the folder that has its name.

The kernel reports a failed write-back once, to descriptors that were open before, and marks the
lost pages clean. So a folder is held open from before its files are placed, and files placed before
a failed sync are never synced again. Their bytes are written from the spool, whose hash is checked,
into a new file that is synced and then changes places with the old one.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from functions.errors import Permanent, Temporary
from functions.processors.file.content import FileBytes
from functions.processors.file.fsync import sync, sync_fd
from functions.processors.file.owned import OwnedFile
from functions.processors.file.rename import NotSupported, rename_exchange

FILE_MODE: Final = 0o644

CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_libc = ctypes.CDLL(None, use_errno=True)
CAN_SYNC_FILE_SYSTEMS: Final = hasattr(_libc, "syncfs")
_CAN_FORGET: Final = hasattr(os, "posix_fadvise")  # macOS has none


class Directory:
    """A folder held open. `failed` is when (monotonic) a sync of it, or of its file system, last
    failed: files placed before that are not known to be on the disk. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.failed = float("-inf")
        self.moved = False
        """True if its path named another folder, or none, when it was synced."""

    def __del__(self) -> None:
        if (fd := getattr(self, "_fd", -1)) >= 0:
            os.close(fd)

    def sync(self) -> None:
        """Make its names durable. Raises OSError."""
        try:
            sync_fd(self._fd)
            if not self._here():
                # A file may have been placed in either.
                with suppress(FileNotFoundError, NotADirectoryError):
                    sync(str(self.path))
        except OSError:
            self.failed = time.monotonic()
            raise

    def sync_file_system(self) -> bool:
        """Make everything in its file system durable; False if the folder was moved away, and its files
        may be elsewhere. Raises OSError."""
        if not self._here():
            return False
        if not CAN_SYNC_FILE_SYSTEMS:
            os.sync()
            self.sync()
        elif _libc.syncfs(self._fd) != 0:
            self.failed = time.monotonic()
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(self.path))
        return True

    def _here(self) -> bool:
        try:
            self.moved = not os.path.samestat(os.stat(self.path), os.fstat(self._fd))  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            self.moved = True
        return not self.moved


class PlacedFile:
    """The file of one mail in its folder. `fsync` and `cleanup` are those of `Placed`.

    `trace` is another name of the file placed as `placed`; `linked` says that the file is the
    spool's own. `at` is when (monotonic) its placing began. Without `directory` nothing need be
    durable.
    """

    __slots__ = ("_at", "_content", "_failed", "_linked", "_placed", "_trace", "directory", "folder")

    def __init__(
        self,
        folder: Path,
        directory: Directory | None,
        content: FileBytes,
        placed: str,
        trace: str,
        at: float,
        *,
        linked: bool = False,
    ) -> None:
        self.folder = folder
        self.directory = directory
        self._content = content
        self._placed = placed
        self._trace = trace
        self._linked = linked
        self._failed = False
        self._at = at

    @property
    def path(self) -> str:
        """The file's path as it was placed; a consumer may have taken it away since."""
        return self._placed

    @property
    def lost(self) -> bool:
        """True if the file may be gone from the disk, because a sync failed since it was placed."""
        return self._failed or (self.directory is not None and self._at <= self.directory.failed)

    @property
    def owned(self) -> OwnedFile | None:
        """The file for the record of an output with limits; None without them."""
        return self._content.owned(self._placed)

    def fsync(self) -> None:
        """Make the file, unless it is the spool's own, and its name durable. Raises Temporary, and then
        writes the file anew when it is called again. Raises Permanent if the spool's copy is damaged. A
        file that a consumer took away meanwhile needs nothing."""
        if self.directory is None:
            return
        try:
            if self.lost:
                now = time.monotonic()
                self.rewrite()
                self._failed, self._at = False, now
            elif not self._linked:
                self._sync_file()
            self.directory.sync()
        except OSError as error:
            self._failed = True
            raise fault(error, f"{self.folder} cannot be flushed") from error

    def placed(self) -> None:
        """A sync showed that the file was there: a consumer may take it away before a crash, and it
        must not be placed again."""
        if self._trace.endswith(".tmp"):
            seal = f"{self._trace[:-4]}.seal"
            try:
                os.rename(self._trace, seal)  # noqa: PTH104
            except OSError:
                return
            self._trace = seal

    def cleanup(self) -> None:
        """Remove the trace. A trace that cannot be removed is only litter."""
        remove(self._trace)

    def rewrite(self, *, torn: bool = False) -> None:
        """Write the file anew from the spool. A size other than the mail's shows that a consumer
        changed the file, and then it stays as it is, unless a power loss may have `torn` it. Raises
        OSError, and Permanent if the spool's copy is damaged."""
        base = self._trace.rpartition(".")[0]
        new, keep = f"{base}.new", f"{base}.keep"
        self._finish_exchange(new, keep)
        # Without hard links there is no trace any more.
        trace = self._trace if _inode(self._trace) is not None else self._placed
        here = _inode(trace)
        if here is None or not (torn or self._unchanged(trace)):
            return
        placed = here == _inode(self._placed)
        if placed and (not self._write_anew(new) or self._exchange(new, keep, here)):
            return
        if not self._linked and os.stat(trace).st_nlink > 1:  # noqa: PTH116
            # The file was moved, and only its other name leads to it.
            self._write_over(trace)

    def _finish_exchange(self, new: str, keep: str) -> None:
        """The state that an earlier attempt left: if the old file already has the new one's name, the
        trace follows."""
        if (old := _inode(new)) is not None and old == _inode(self._trace):
            with suppress(FileNotFoundError):
                os.rename(keep, self._trace)  # noqa: PTH104
        remove(keep)
        remove(new)

    def _exchange(self, new: str, keep: str, old: tuple[int, int]) -> bool:
        """Put the new file into the old one's place, in one step; False if a consumer was faster."""
        with suppress(OSError):
            os.link(new, keep)
        try:
            try:
                rename_exchange(new, self._placed)
            except NotSupported:
                os.rename(new, self._placed)  # noqa: PTH104
            else:
                if _inode(new) != old:
                    # Another file had taken the name.
                    rename_exchange(new, self._placed)
                    return False
            with suppress(FileNotFoundError):
                os.rename(keep, self._trace)  # noqa: PTH104
        except FileNotFoundError:
            return False
        finally:
            remove(keep)
            remove(new)
        self._linked = False
        return True

    def _unchanged(self, path: str) -> bool:
        """True if the file has the size with which it was placed."""
        return os.stat(path).st_size == self._content.size  # noqa: PTH116

    def _write_anew(self, path: str) -> bool:
        """Write a synced file. False if the spool no longer has the mail, because its file is the
        placed one, which the consumer may change."""
        fd = os.open(path, CREATE, FILE_MODE)
        try:
            whole = self._content.write_checked(fd)
            if whole and self.directory is not None:
                sync_fd(fd)
        except OSError:
            remove(path)
            raise
        finally:
            os.close(fd)
        if not whole:
            remove(path)
            if not self._linked:
                raise _damaged()
        return whole

    def _write_over(self, path: str) -> None:
        """Write the mail over the same file. Raises OSError, also while another process has the file open."""
        if not self._content.is_whole():
            raise _damaged()
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _keep_others_out(fd)
            # The kernel's own notes on the lost pages may be wrong, too (ext4 takes the blocks for
            # written).
            if _CAN_FORGET:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            self._content.write_checked(fd)
            if self.directory is not None:
                sync_fd(fd)
        finally:
            os.close(fd)

    def _sync_file(self) -> None:
        here = _inode(self._trace)
        path = self._placed if here is None or here == _inode(self._placed) else self._trace
        with suppress(FileNotFoundError, NotADirectoryError):
            sync(path)


def fault(error: OSError, doing: str) -> Temporary:
    """The fault for an operating system's error: 4.3.1 for a full disk (RFC 3463 section 3.4), else
    4.3.0."""
    code = errno.errorcode.get(error.errno or 0, "")
    enhanced = "4.3.1" if error.errno in _FULL else "4.3.0"
    return Temporary(f"{doing}: {error.strerror or error} {code}".rstrip(), enhanced=enhanced)


def remove(path: str) -> None:
    """Remove a file if it exists and can be removed."""
    try:  # noqa: SIM105 - each mail comes here, and `suppress` costs more than the rest
        os.unlink(path)  # noqa: PTH108
    except OSError:
        pass


def _damaged() -> Permanent:
    return Permanent("the spool's copy of the mail is damaged", enhanced="5.3.0")


def _keep_others_out(fd: int) -> None:
    """Make other processes wait that open the file, until it is closed. Raises OSError if one has it open."""
    try:
        # The signal that reports a waiting process must not end this one.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        raise
    except (AttributeError, OSError):
        return  # no leases on this file system


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
