"""Sets up the logs of the process (docs/configuration.md, logger options).

All code logs through the standard library under `smtp_relay`; structured facts go in `extra`
(`extra={"id": mail_id, "session": …}`), never into the message.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from functions.errors import ConfigError
from listener.logs.console import ConsoleFormat
from listener.logs.format import LEVELS, TRACE, JsonFormat, formatter
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


def take_over() -> None:
    """Log what Python itself would write to standard error: warnings, and exceptions that no code
    catches."""
    warnings.showwarning = _log_warning
    sys.excepthook = lambda *error: _log_exception("unexpected fault", error)
    threading.excepthook = lambda fault: _log_exception(
        "unexpected fault in a thread", (fault.exc_type, fault.exc_value, fault.exc_traceback)
    )
    sys.unraisablehook = lambda fault: _log_exception(
        "unexpected fault that Python ignored", (fault.exc_type, fault.exc_value, fault.exc_traceback)
    )


def to_a_person() -> bool:
    """True if a console shows a person what the server does."""
    return any(isinstance(one.formatter, ConsoleFormat) and one.level <= logging.INFO for one in _installed)


def tell_end(mistake: str) -> bool:
    """Log the mistake that ends this process, on standard error only as JSON. Returns False if the caller
    must print it there, because a person reads it."""
    record = logging.makeLogRecord(
        {"name": "smtp_relay.server", "levelno": logging.CRITICAL, "levelname": "CRITICAL", "msg": mistake}
    )
    consoles = [one for one in _installed if isinstance(one, ConsoleHandler)]
    for handler in _installed:
        if handler not in consoles:
            handler.handle(record)
    if not any(isinstance(one.formatter, JsonFormat) for one in consoles or _installed):
        return False
    console = ConsoleHandler()
    console.setFormatter(JsonFormat())
    console.handle(record)
    return True


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    about = {"category": category.__name__, "at": f"{filename}:{lineno}"}
    logging.getLogger("py.warnings").warning("%s", message, extra=about)


def _log_exception(text: str, error: Any) -> None:
    if error[0] is not SystemExit:
        logging.getLogger("smtp_relay.server").critical(text, exc_info=error)


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
    level = default if options.level is None else LEVELS[options.level]
    handler.setLevel(level)
    if options.type == "CONSOLE" and options.format == "text":
        handler.setFormatter(ConsoleFormat(ids=level <= logging.DEBUG))
    else:
        handler.setFormatter(formatter(options.format))
    return handler


def _default_level(environ: Mapping[str, str]) -> int:
    name = environ.get("LOG_LEVEL", "").strip().upper()
    return LEVELS.get({"WARNING": "WARN", "CRITICAL": "ERROR"}.get(name, name), logging.INFO)
