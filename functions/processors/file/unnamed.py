"""A file that has no name until it is whole (open(2), O_TMPFILE): a crash leaves nothing of it."""

from __future__ import annotations

import errno
import os
from typing import Final

from functions.processors.file.placed import FILE_MODE
from functions.processors.file.rename import NotSupported

_TMPFILE: Final[int] = getattr(os, "O_TMPFILE", 0)  # Linux has it
_FLAGS: Final = os.O_WRONLY | os.O_CLOEXEC | _TMPFILE
_SUPPORTED: Final = bool(_TMPFILE) and os.path.isdir("/proc/self/fd")  # noqa: PTH112
_LACKING: Final = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTSUP, errno.EISDIR, errno.EINVAL, errno.ENOSYS, errno.EPERM}
)
_PASSING: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS}
)


def open_unnamed(folder: str) -> int:
    """A descriptor of a new file in the folder's file system. Raises NotSupported, and OSError."""
    if not _SUPPORTED:
        raise NotSupported
    try:
        return os.open(folder, _FLAGS, FILE_MODE)
    except OSError as error:
        if error.errno in _LACKING:
            raise NotSupported from error
        raise


def give_name(fd: int, path: str) -> bool:
    """Give the file its name, in one step; False if the name is in use. Raises OSError, and NotSupported if
    the file system gives such a file no name."""
    try:
        # With a descriptor, which an absolute path does not need, this is linkat(2), and that follows the
        # link to the file.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    except FileExistsError:
        return False
    except OSError as error:
        if os.fstat(fd).st_nlink:
            return True  # the name is there, whatever the error says
        if error.errno in _PASSING or not os.path.isdir(os.path.dirname(path)):  # noqa: PTH112, PTH120
            raise
        raise NotSupported from error
    return True
