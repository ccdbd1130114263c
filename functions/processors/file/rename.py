"""Links that fail if the name is in use or the file system has none, and rename(2) that fails if the new
name is in use, or that exchanges two names, by Linux's renameat2(2)."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any, Final

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2
NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
"""The errors of link(2) on a file system without hard links."""
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV})


class NotSupported(Exception):
    """This system or file system does not support it."""


def _find() -> Any:
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function


_renameat2: Final = _find()


def rename_exclusively(old: str, new: str) -> None:
    """Move `old` to `new` in one step. Raises FileExistsError and other OSErrors, NotSupported if the
    system has no such step."""
    _rename(old, new, _RENAME_NOREPLACE)


def rename_exchange(old: str, new: str) -> None:
    """Make two files change places in one step. Raises FileNotFoundError and other OSErrors,
    NotSupported if the system has no such step."""
    _rename(old, new, _RENAME_EXCHANGE)


def _rename(old: str, new: str, flags: int) -> None:
    if _renameat2 is None:
        raise NotSupported
    if _renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags) == 0:
        return
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        raise NotSupported
    raise OSError(code, os.strerror(code), old, None, new)


def link_once(source: str, path: str) -> bool:
    """True if the link was made now; False if it existed. Raises NotSupported if this file cannot be
    linked."""
    try:
        os.link(source, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in NO_LINKS or error.errno in (errno.EXDEV, errno.EMLINK):
            raise NotSupported from error
        raise
    return True
