"""Logs as Cloud Logging reads them from standard output: one JSON object on a line.

A record's attributes beside its message (`id`, `flow`, `output` …) become fields of `jsonPayload`,
so one mail's id finds all its entries.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from contextvars import ContextVar
from typing import Any, Final, TextIO

from functions import __version__

trace: Final[ContextVar[str]] = ContextVar("trace", default="")
"""The name of the request's trace, "" outside of one."""

_SEVERITY: Final = {"WARN": "WARNING", "FATAL": "CRITICAL"}  # LogSeverity has the other names as they are
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTEXT: Final = re.compile(r"([0-9a-f]{32})(?:/.*)?", re.IGNORECASE)
_LONGEST: Final = 100_000  # characters of a message; an entry may have 256 KB


class CloudFormatter(logging.Formatter):
    """Writes a record as a structured entry."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            # Error Reporting looks for the traceback in the message.
            message = f"{message}\n{self.formatException(record.exc_info)}"
        entry: dict[str, Any] = {
            "severity": _SEVERITY.get(record.levelname, record.levelname),
            "message": message[:_LONGEST],
            "logger": record.name,
            **{name: value for name, value in vars(record).items() if name not in _OWN},
            "version": __version__,
        }
        if name := trace.get():
            entry["logging.googleapis.com/trace"] = name
        return json.dumps(entry, default=str)


def set_up(stream: TextIO | None = None) -> None:
    """Send all logs there: this project's from LOG_LEVEL (INFO) on, others' from WARNING."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(CloudFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("smtp_relay").setLevel(os.environ.get("LOG_LEVEL", "INFO").upper())


def trace_of(header: str | None) -> str:
    """The trace in a request's `X-Cloud-Trace-Context`, "" if the header is missing or malformed."""
    found = _CONTEXT.fullmatch(header or "")
    project = os.environ.get("GOOGLE_CLOUD_PROJECT")
    return f"projects/{project}/traces/{found[1]}" if found and project else ""
