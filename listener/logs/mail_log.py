"""The log line of every mail, cheaper than other lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from listener.logs.console import ConsoleFormat
from listener.logs.format import TextFormat
from listener.logs.handlers import LineHandler

_BASE: Final = vars(logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO"}))


_holding: Final[list[LineHandler]] = []
"""The handlers that hold a line."""


def flush() -> None:
    """Write the lines that were held together."""
    while _holding:
        _holding.pop().flush()


def info(logger: logging.Logger, message: str, extra: Mapping[str, Any]) -> bool:
    """Log like `logger.info(message, extra=extra)`, but at the next `flush`. The message has no
    arguments and nothing to escape. Handlers of the text formats get their line without a record, because
    finding the caller, the thread and the process, which no format shows, costs more than the rest of a
    record. Returns True if the caller must arrange a `flush`, because this is the first held line."""
    if not logger.isEnabledFor(logging.INFO):
        return False
    created = time.time()
    record: logging.LogRecord | None = None
    first = False
    at: logging.Logger | None = logger
    while at is not None:
        for handler in at.handlers:
            if handler.level > logging.INFO:
                continue
            style = handler.formatter
            if (
                (type(style) is TextFormat or type(style) is ConsoleFormat)
                and isinstance(handler, LineHandler)
                and not (handler.filters or logger.filters)
            ):
                with handler.lock:  # type: ignore[union-attr]  # made by Handler.__init__
                    handler.hold((created, logger.name, message, extra))
                if handler not in _holding:
                    _holding.append(handler)
                    first = True
                continue
            if record is None:
                record = _record(logger.name, message, extra, created)
                if not logger.filter(record):
                    return False
            handler.handle(record)
        at = at.parent if at.propagate else None
    return first


def _record(name: str, message: str, extra: Mapping[str, Any], created: float) -> logging.LogRecord:
    record = logging.LogRecord.__new__(logging.LogRecord)
    fields = record.__dict__
    fields.update(_BASE)
    fields["name"] = name
    fields["msg"] = message
    fields["created"] = created
    fields["msecs"] = created % 1 * 1000
    fields.update(extra)
    return record
