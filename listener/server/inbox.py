"""Starts the process of the inbox beside the server, and ends it with the server."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.errors import ConfigError
from listener.control.channel import bind_control, remove_control
from listener.logs.console import STARTING
from listener.server.sockets import bind, close_all, listen

if TYPE_CHECKING:
    from functions.options.secrets import Runtime
    from listener.config.inbox import InboxOptions
    from listener.config.relay import RelayConfig
    from listener.filters.respond.memory import ScriptMemory
    from listener.inbox.settings import InboxSettings
    from listener.monitoring.failed_logins import FailedLogins

log = logging.getLogger(STARTING)

_PACKAGES: Final = ("nh3", "starlette", "uvicorn", "websockets")
_MODULE: Final = "listener.inbox.web.process"
_QUICK: Final = 5.0
"""Seconds of life below which the next one waits before it begins."""

_MOST_PAUSE: Final = 10
_OTHERS: Final = 20
"""Ports to try after the usual one, where the file gives none."""


class InboxProcess:
    """The process that shows the mails of one configuration; it is started again when it dies. `settings` is
    what it reads, `listening` its socket, `failed` where it counts failed logins with the others, `script`
    where it changes the answers of the filters `respond`."""

    def __init__(
        self,
        settings: InboxSettings,
        listening: socket.socket,
        failed: FailedLogins,
        script: ScriptMemory,
        control: socket.socket,
    ) -> None:
        self.control = control
        """The control socket, from which the workers accept."""
        self._settings = settings
        self._listening = listening
        self._failed = failed
        self.script = script
        # The handler of SIGHUP calls `renew` in the thread that may be in the middle of `ended`.
        self._lock = threading.RLock()
        self._stopping = False
        self._renewed = False
        self._quick = 0
        self._start()

    def ended(self, pid: int) -> bool:
        """A child of this process ended: if it is the inbox, start it again. Returns True then."""
        with self._lock:
            if pid != self._process.pid:
                return False
            self._process.wait()  # it is known to have ended
            if self._process.stdin is not None:
                with suppress(BrokenPipeError):
                    self._process.stdin.close()
            if not self._stopping:
                quick = not self._renewed and time.monotonic() - self._since < _QUICK
                if not self._renewed:
                    log.warning("the inbox ended, starting it again")
                self._renewed = False
                self._quick = min(self._quick + 1, _MOST_PAUSE) if quick else 0
                self._start()
            return True

    def follow(self) -> None:
        """Start it again from a thread, in a server that does not wait for its children itself."""
        threading.Thread(target=self._follow, name="inbox-process", daemon=True).start()

    def renew(self, config: RelayConfig, around: Runtime) -> None:
        """Another configuration is in force: if it changes the inbox, its process ends, and the next one has
        the new settings. The socket stays."""
        from listener.inbox.settings import settings_of

        try:
            settings = settings_of(config, around.folder, around.secrets)
        except ConfigError as mistake:
            log.error("the inbox keeps its settings: %s", mistake)
            return
        with self._lock:
            before = self._settings
            if settings == before or self._stopping:
                return
            if settings is None or (settings.options.port, settings.options.bind) != (
                before.options.port,
                before.options.bind,
            ):
                log.warning(
                    "another port or bind of the inbox, or its end, waits for a restart of the server"
                )
            if settings is not None:
                self._settings, self._renewed = settings, True
                self._process.terminate()  # workers were forked with its input, which therefore goes on

    def stop(self) -> None:
        """End the process by the end of its input; it needs a second at most."""
        with self._lock:
            self._stopping = True
            process = self._process
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(1.5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._listening.close()
        self.control.close()
        remove_control(Path(self._settings.spool))

    def _follow(self) -> None:
        while not self._stopping:
            process = self._process
            process.wait()
            self.ended(process.pid)

    def _start(self) -> None:
        # The working folder may hold modules of these names, so Python must look for ours first.
        root = os.fspath(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        given = [self._listening.fileno(), self._failed.fd, self.script.fd]
        number, *memory = map(str, given)
        safe = "-I" if sys.flags.isolated else "-P"
        self._since = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a module of ours
            [sys.executable, safe, "-m", _MODULE, number, str(self._quick), *memory],
            stdin=subprocess.PIPE,
            pass_fds=given,
            env={**os.environ, "PYTHONPATH": paths},
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(self._settings.model_dump_json(by_alias=True).encode() + b"\n")
            self._process.stdin.flush()


def inbox_of(
    config: RelayConfig, around: Runtime, failed: FailedLogins, script: ScriptMemory
) -> InboxProcess | None:
    """The process that shows the mails, None if the configuration has no inbox; its failed logins have the
    last row of `failed`, and it may change `script`. Raises ConfigError if it cannot be; where no file asks
    for it, that is one line of the log."""
    if config.inbox is None:
        return None
    try:
        return _started(config, config.inbox, around, failed, script)
    except ConfigError as error:
        if not config.inbox_by_default:
            raise
        cure = f" ({error.cure})" if error.cure else ""
        log.info("no inbox: %s%s", error.what, cure, extra={"reason": error.what})
        return None


def _started(
    config: RelayConfig,
    options: InboxOptions,
    around: Runtime,
    failed: FailedLogins,
    script: ScriptMemory,
) -> InboxProcess:
    from listener.inbox.settings import settings_of

    settings = settings_of(config, around.folder, around.secrets)
    assert settings is not None  # there is an inbox
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError("inbox", f"package {missing[0]} is missing", "pip install 'smtp-relay[inbox]'")
    listening = _bound(options)
    host, port = listening.getsockname()[:2]
    shown = "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else host  # noqa: S104 - compared
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}{options.path}"
    log.info("inbox: %s", url, extra={"url": url})
    try:
        control = bind_control(Path(settings.spool))
    except ConfigError:
        listening.close()
        raise
    return InboxProcess(settings, listening, failed, script, control)


def _bound(options: InboxOptions) -> socket.socket:
    """A socket that listens. Without a port in the file, the next free one is taken where the usual one is
    not free. Raises ConfigError."""
    last = options.port + (0 if "port" in options.model_fields_set else _OTHERS)
    for port in range(options.port, last + 1):
        try:
            made = bind(options.bind or "localhost", port, shared=False)
            close_all([made[1:]])
            listen(made[:1], 128)
        except ConfigError as error:
            cause = error.__cause__
            taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
            if port < last and taken:
                continue
            raise
        return made[0]
    raise AssertionError("the range has a port")
