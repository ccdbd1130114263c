"""Tries a configuration before a reload uses it, in a process that ends with the attempt.

Several workers share one configuration, and a worker that dies is started again with it. So it must
be known that a worker can serve it, not only that it can be read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions.errors import ConfigError
from functions.options.secrets import Runtime
from listener.config.errors import locate_secret_errors
from listener.intake.captures import Captures
from listener.logs import setup as observe
from listener.monitoring.events import NULL
from listener.server import build
from listener.server.generation import Generation
from listener.smtp.connection_limits import LocalCounters

if TYPE_CHECKING:
    from listener.config.relay import RelayConfig

log = logging.getLogger("smtp_relay.server")

PATIENCE: Final = 60.0
"""Seconds for an attempt: secrets may be fetched from a cloud."""

_LOOK_EVERY: Final = 0.02


class _NoSpool:
    """Replaces the spool, because an attempt receives no mail."""

    capture_folder = Path(os.devnull)
    captures = Captures(capture_folder)
    hashes = False


def try_config(config: RelayConfig, around: Runtime) -> bool:
    """True if a worker could serve this configuration; the reason against it is logged. For a parent
    without threads: it forks, and waits."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = _attempt(config, around)
        finally:
            os._exit(code)
    deadline = time.monotonic() + PATIENCE
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status == 0
        if time.monotonic() > deadline:
            log.error("the configuration was not used: trying it took longer than %.0f s", PATIENCE)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        time.sleep(_LOOK_EVERY)


def _attempt(config: RelayConfig, around: Runtime) -> int:
    # The parent's handlers would speak to its workers, so they are replaced.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with locate_secret_errors(config):
            asyncio.run(_carry_out(config, around))
    except ConfigError as mistake:
        log.error("the configuration was not used: %s", mistake)
    except BaseException:
        log.exception("the configuration was not used")
    else:
        return 0
    finally:
        logging.shutdown()
    return 1


async def _carry_out(config: RelayConfig, around: Runtime) -> None:
    """Make everything that a worker makes of a configuration. Raises ConfigError."""
    spool: Any = _NoSpool()
    generation = Generation(config, around, spool, LocalCounters(), NULL, asyncio.get_running_loop())
    try:
        await generation.start()
        if not config.spool.in_bucket:
            build.build_delivery(config, around, staging=None).close()
        elif config.mode == "in-process":
            build.build_from_bucket(config, around)[0].close()
        observe.configure(config.log_outputs, folder=around.folder, environ=around.environ)
    finally:
        await generation.stop()
