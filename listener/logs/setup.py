"""Sets up the logs of the process (docs/configuration.md, logger options).

All code logs through the standard library under `smtp_relay`; structured facts go in `extra`
(`extra={"id": mail_id, "session": …}`), never into the message.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from functions.errors import ConfigError
from listener.logs.format import LEVELS, TRACE, formatter
from listener.logs.handlers import ConsoleHandler, RotatingHandler
from listener.logs.options import LoggerOptions

OURS: Final = ("smtp_relay", "listener", "functions")
"""Loggers that follow the configured level. Loggers of libraries start at WARN, because at DEBUG they
log what clients send, passwords included."""

_SILENT: Final = logging.CRITICAL + 1

_installed: list[logging.Handler] = []


def configure(
    loggers: Sequence[LoggerOptions] | None = None,
    *,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Send logs to `loggers`: one CONSOLE if None, nowhere if empty.

    Relative file paths start at `folder`. Another call replaces the previous setup. Raises ConfigError
    for a file that cannot be written, and then changes nothing.
    """
    options = (LoggerOptions(type="CONSOLE"),) if loggers is None else tuple(loggers)
    default = _default_level(os.environ if environ is None else environ)
    handlers: list[logging.Handler] = []
    try:
        for at, each in enumerate(options):
            handlers.append(_handler(at, each, folder or Path.cwd(), default))
    except ConfigError:
        for handler in handlers:
            handler.close()
        raise
    level = min((handler.level for handler in handlers), default=_SILENT)
    # Without a handler the standard library prints warnings itself.
    _install(handlers or [logging.NullHandler()], level)


def _install(handlers: list[logging.Handler], level: int) -> None:
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    for handler in _installed:
        root.removeHandler(handler)
        handler.close()
    _installed[:] = handlers
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    logging.addLevelName(TRACE, "TRACE")
    # No format shows the caller's file and line, the thread, the process and the task, so records do
    # not collect them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    if hasattr(logging, "logAsyncioTasks"):
        logging.logAsyncioTasks = False


def _handler(at: int, options: LoggerOptions, folder: Path, default: int) -> logging.Handler:
    handler: logging.Handler
    if options.type == "FILE":
        path = folder / (options.filepath or "")
        try:
            handler = RotatingHandler(path, options.size_limit, options.keep)
        except OSError as error:
            raise ConfigError(
                f"loggers[{at}].filepath",
                f"{path} cannot be written: {error.strerror}",
                "name a file in an existing folder",
            ) from error
    else:
        handler = ConsoleHandler()
    handler.setLevel(default if options.level is None else LEVELS[options.level])
    handler.setFormatter(formatter(options.format))
    return handler


def _default_level(environ: Mapping[str, str]) -> int:
    name = environ.get("LOG_LEVEL", "").strip().upper()
    return LEVELS.get({"WARNING": "WARN", "CRITICAL": "ERROR"}.get(name, name), logging.INFO)
