"""One pass over a local spool, from outside: what waits is made due now."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from functions.backends import Swept
from functions.config import DeliveryConfig
from functions.errors import Temporary
from functions.local import layout


def sweep_once(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> Swept:
    """Count what the folder holds and make every waiting mail due. The server that owns the folder
    sees that within a second; where none runs, the next start delivers. Raises Temporary."""
    root = folder / config.spool.url.removeprefix("file://")
    now = time.time()
    oldest: float | None = None
    unfinished = dead = rung = 0
    try:
        for part in layout.parts(root):
            with contextlib.closing(part.connect()) as db:
                count, received, records = layout.backlog(db)
                unfinished += count
                if received is not None:
                    oldest = max(oldest or 0.0, now - received / 1000)
                dead += records
                changed = db.execute(
                    "UPDATE mail SET next = ? WHERE parked IS NOT 1 AND next > ?", (now, now)
                )
                rung += changed.rowcount
    except sqlite3.Error as error:
        raise Temporary(f"the spool cannot be read: {error}") from error
    return Swept(oldest, unfinished, dead, rung)
