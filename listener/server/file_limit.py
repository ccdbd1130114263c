"""The number of files and connections that the system lets this process hold."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

log = logging.getLogger("smtp_relay.server")

SPARE: Final = 128
"""Descriptors for everything except clients: the spool, logs, outputs."""

OPEN_MAX: Final = 10_240
"""The largest limit that macOS takes where it says that there is none."""


def make_room(clients: int) -> None:
    """Raise the limit on open files: so many clients can then each hold a connection and the file that
    captures their mail. Log a warning if the system does not permit it. 0 clients means no limit on
    them: then take the largest limit."""
    try:
        import resource
    except ImportError:  # other systems than Unix have no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = 2 * clients + SPARE
    if not clients and hard != unlimited:
        wanted = hard
    if soft == unlimited or soft >= wanted:
        return
    most = wanted if hard == unlimited else min(wanted, hard)
    granted = soft
    for limit in [each for each in (most, OPEN_MAX) if soft < each <= most]:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            granted = limit
            break
    if granted < clients + SPARE:
        log.warning(
            "the system lets %d files be open (ulimit -n): that is enough for about %d of the %d clients of "
            "maxClients",
            granted,
            max(granted - SPARE, 0),
            clients,
        )
