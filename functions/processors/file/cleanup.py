"""Removes the files that crashes left of `file` outputs.

A temporary outlives its mail only if a process dies between the receipt and the removal. No run
comes back to that mail, so only this code finds the temporary. The server makes a probe to find out
whether a folder supports links; a probe outlives only a process that dies at that moment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_TRACE: Final = re.compile(
    r"\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[0-9a-f]{16}\.(?:tmp|body|seal|new|keep)"
)
_PROBE: Final = re.compile(r"\.([0-9]{1,10})-[0-9a-f]{16}\.tmp")


def probe_name() -> str:
    """A new name for a probe of this process."""
    return f".{os.getpid()}-{os.urandom(8).hex()}.tmp"


def remove_traces(folder: Path, waiting: Callable[[str], bool]) -> int:
    """Remove the temporaries in `folder` of mails that are not `waiting` (unfinished, by mail id), and
    the probes of ended processes, and return how many. Call it before deliveries start. An unreadable
    folder counts as empty."""
    removed = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if found := _TRACE.fullmatch(entry.name):
                left = not waiting(found[1])
            else:
                found = _PROBE.fullmatch(entry.name)
                left = found is not None and _is_gone(int(found[1]))
            if left:
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108
                    removed += 1
    return removed


def _is_gone(pid: int) -> bool:
    """True if no other process has that number. In a container the next server often gets the same one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return pid == os.getpid()
