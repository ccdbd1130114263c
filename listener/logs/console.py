"""The text format of a console: lines for a person (docs/configuration.md, logger options).

Ids come last. A console above DEBUG shows none that a person cannot use, because FILE loggers, JSON and
templates have them all.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from functions.message.text import escaped
from listener.logs.format import clock, extras, level_name, traceback_lines, written, written_pairs

ACCEPTED: Final = "mail accepted"
"""The message of the one line of each mail."""

STARTING: Final = "smtp_relay.start"
"""The logger of the start. Its messages are sentences that say what their fields say."""

_STDERR: Final = 2
_OURS: Final = ("smtp_relay", "listener.", "functions.")
_IDS: Final = ("id", "session", "key")
_OF_OPERATORS: Final = ("ip", "flows", "id", "session")
_UNITS: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))

_last: tuple[int, str] = (0, "")


def local_time(created: float) -> str:
    """A Unix time in seconds as this machine's time of day, `01:02:03`."""
    global _last  # noqa: PLW0603 - one second's text, replaced as a whole
    second = int(created)
    cached = _last
    if cached[0] != second:
        cached = _last = (second, time.strftime("%H:%M:%S", time.localtime(second)))
    return cached[1]


class ConsoleFormat(logging.Formatter):
    """`01:02:03 app@example.com → you@example.com  "Welcome"  5.1 kB  received_emails/20260102….eml`.

    `ids` says that every line shows all ids. Outside of a terminal a line begins with date and time in
    UTC, because it is read later.
    """

    def __init__(self, *, ids: bool = False) -> None:
        super().__init__()
        self._ids = ids
        self._clock = local_time if os.isatty(_STDERR) else clock
        self._folder = f"{Path.cwd()}/"

    def format(self, record: logging.LogRecord) -> str:
        facts = dict(extras(record))
        if record.levelno == logging.INFO and not record.exc_info:
            return self.line(record.created, record.name, record.getMessage(), facts)
        level = f"[{level_name(record.levelno):>5}] "
        text = self._written(level, record.name, record.getMessage(), facts)
        after = [f"\n    {escaped(line)}" for line in traceback_lines(record)]
        return f"{self._clock(record.created)} {text}{''.join(after)}"

    def line(self, created: float, name: str, message: str, facts: Mapping[str, Any]) -> str:
        """The line of a record at INFO."""
        if message == ACCEPTED and "size" in facts:
            text = self._mail(facts)
        elif name == STARTING:
            text = escaped(message)
        else:
            text = self._written("", name, message, facts)
        return f"{self._clock(created)} {text}"

    def _written(self, level: str, name: str, message: str, facts: Mapping[str, Any]) -> str:
        left_out = () if self._ids else ("session", "key")
        pairs = [pair for pair in facts.items() if pair[0] not in _IDS]
        pairs += [(key, facts[key]) for key in _IDS if key in facts and key not in left_out]
        about = "" if name.startswith(_OURS) else f"{escaped(name)}: "
        after = f" {known}" if (known := written_pairs(pairs)) else ""
        return f"{level}{about}{escaped(message)}{after}"

    def _mail(self, facts: Mapping[str, Any]) -> str:
        parts = [_way(facts)]
        if "from" in facts:
            subject = facts.get("subject")
            parts.append(written(subject, quoted=True) if subject else "(no subject)")
        parts.append(size(facts["size"]))
        if file := facts.get("file"):
            parts.append(escaped(str(file).removeprefix(self._folder)))
        # Without addresses the ids are the reader's only way to one mail.
        shown = _OF_OPERATORS if self._ids or "from" not in facts else ()
        pairs = [(key, facts[key]) for key in ("user", *shown) if key in facts]
        return "  ".join([*parts, written_pairs(pairs)] if pairs else parts)


def _way(facts: Mapping[str, Any]) -> str:
    """Sender and recipients, in the words that `logAddresses` permits."""
    count = facts.get("recipients", 1)
    if "from" not in facts:
        domain = facts.get("from_domain")
        many = "1 recipient" if count == 1 else f"{count} recipients"
        return f"{'@' + escaped(str(domain)) if domain else '<>'} → {many}"
    to = str(facts.get("to", ""))
    if count > 1 and '"' not in to:  # a quoted local part may hold a comma
        to = f"{to.partition(',')[0]} +{count - 1}"
    return escaped(f"{facts['from'] or '<>'} → {to}")


def size(octets: int) -> str:
    """A number of bytes for a person: `812 B`, `5.1 kB`, `12 MB`."""
    for factor, unit in _UNITS:
        if octets >= factor * 0.9995:
            amount = octets / factor
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
    return f"{octets} B"
