"""Starts the process of the inbox beside the server, and ends it with the server."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.errors import ConfigError
from listener.logs.console import STARTING
from listener.server.sockets import bind

if TYPE_CHECKING:
    from functions.options.secrets import Runtime
    from listener.config.inbox import InboxOptions
    from listener.config.relay import RelayConfig

log = logging.getLogger(STARTING)

_PACKAGES: Final = ("starlette", "uvicorn", "websockets")
_MODULE: Final = "listener.inbox.web.process"
_OTHERS: Final = 20
"""Ports to try after the usual one, where the file gives none."""


@contextmanager
def inbox_beside(config: RelayConfig, around: Runtime) -> Iterator[None]:
    """Show the mails while the block runs, if the configuration has an inbox. Raises ConfigError if it
    cannot be."""
    if config.inbox is None:
        yield
        return
    from listener.inbox.settings import settings_of

    settings = settings_of(config, around.folder)
    assert settings is not None  # there is an inbox
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError("inbox", f"package {missing[0]} is missing", "pip install 'smtp-relay[inbox]'")
    listening = _bound(config.inbox)
    process = _started(settings.model_dump_json(by_alias=True).encode(), listening)
    host, port = listening.getsockname()[:2]
    shown = "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else host  # noqa: S104 - compared
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}{config.inbox.path}"
    listening.close()
    log.info("inbox: %s", url, extra={"url": url})
    try:
        yield
    finally:
        _ended(process)


def _bound(options: InboxOptions) -> socket.socket:
    """A socket that listens. Without a port in the file, the next free one is taken where the usual one is
    not free. Raises ConfigError."""
    last = options.port + (0 if "port" in options.model_fields_set else _OTHERS)
    for port in range(options.port, last + 1):
        try:
            made = bind(options.bind or "localhost", port, shared=False)
        except ConfigError as error:
            cause = error.__cause__
            taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
            if port < last and taken:
                continue
            raise
        for other in made[1:]:
            other.close()
        made[0].listen(128)
        return made[0]
    raise AssertionError("the range has a port")


def _started(settings: bytes, listening: socket.socket) -> subprocess.Popen[bytes]:
    # The working folder may hold modules of these names, so Python must look for ours first.
    root = os.fspath(Path(__file__).parents[2])
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    process = subprocess.Popen(  # noqa: S603 - this interpreter, and a module of ours
        [sys.executable, "-I" if sys.flags.isolated else "-P", "-m", _MODULE, str(listening.fileno())],
        stdin=subprocess.PIPE,
        pass_fds=[listening.fileno()],
        env=environ,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(settings + b"\n")
        process.stdin.flush()
    return process


def _ended(process: subprocess.Popen[bytes]) -> None:
    """End the process by the end of its input; it needs a second at most."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(1.5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
