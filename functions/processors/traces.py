"""Clearing away what crashes left of `file` outputs.

A temporary outlives its mail only when a process dies between the receipt and the removal. Nobody
asks for that mail again, so nobody but this would find it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_TRACE: Final = re.compile(
    r"\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[0-9a-f]{16}\.(?:tmp|body|seal)"
)


def remove_traces(folder: Path, owed: Callable[[str], bool]) -> int:
    """Remove the temporaries in `folder` of mails that are not `owed` (by mail id) any more, and say
    how many. Call it before deliveries start. A folder that cannot be read has none."""
    removed = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _TRACE.fullmatch(entry.name)
            if found is not None and not owed(found[1]):
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108
                    removed += 1
    return removed
