"""The requests that a worker answers at the control socket: `submit` a mail, `reload` the configuration."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from listener.config.relay import RelayConfig
from listener.control.service import Handler
from listener.control.submission import Submission


def requests(
    submission: Callable[[], Submission | None], reads: object | None, config: RelayConfig
) -> Mapping[str, Handler]:
    """The handlers. `submission` gives that of the configuration in force; `reads` is None if there is no
    file to read again. A process that is one of several has a parent, which reloads them all."""

    async def submit(request: Mapping[str, Any], reader: asyncio.StreamReader) -> Mapping[str, Any]:
        taker = submission()
        if taker is None:
            return {"error": "the configuration has no inbox.send and no inbox.release"}
        return await taker.handle(request, reader)

    async def reload(_: Mapping[str, Any], __: asyncio.StreamReader) -> Mapping[str, Any]:
        if reads is None:
            return {"error": "the configuration is not in a file"}
        os.kill(os.getpid() if config.processes == 1 else os.getppid(), signal.SIGHUP)
        return {}

    return {"submit": submit, "reload": reload}
