"""Formats a log record as one line (docs/configuration.md, logger options).

A message or field may hold anything that a client sent. The formatters escape all its control
characters, so it cannot forge a line.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any, Final

from functions.message.text import escaped

TRACE: Final = 5
LEVELS: Final = {
    "TRACE": TRACE,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
}
_NAMES: Final = {number: name for name, number in LEVELS.items()} | {logging.CRITICAL: "ERROR"}

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FIRST_EXTRA: Final = len(vars(logging.makeLogRecord({})))  # `extra` follows these
_BARE: Final = re.compile(r"[!#-<>-~]+").fullmatch  # values that need no quotes
# Lists and other containers start with a bracket and have another form.
_PLAIN: Final = bytes(octet for octet in range(0x21, 0x7F) if octet not in b'"=[({')
_PLACEHOLDER: Final = re.compile(
    r"%(?:\((?P<name>[^)]*)\)(?P<style>-?[0-9]{0,3}[a-zA-Z])|(?P<other>.?))", re.DOTALL
)
_VARIABLES: Final = {"d": "s", "l": "s", "m": "s", "t": "sd"}

_FORMS: Final = 64
_forms: Final[dict[tuple[str, ...], str]] = {}
"""The forms of lines, by the names of their values."""

_last: tuple[int, str] = (0, "1970-01-01T00:00:00")


def clock(created: float) -> str:
    """A Unix time in seconds as `2026-01-02T03:04:05.678Z`."""
    global _last  # noqa: PLW0603 - one second's text, replaced as a whole
    ms = int(created * 1000)
    second = ms // 1000
    cached = _last
    if cached[0] != second:
        cached = _last = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    return f"{cached[1]}.{ms % 1000:03d}Z"


def level_name(number: int) -> str:
    """The configuration's name of a level; a level between two has the lower one's name."""
    name = _NAMES.get(number)
    if name is None:
        name = max(((n, word) for n, word in _NAMES.items() if n <= number), default=(0, "TRACE"))[1]
    return name


def extras(record: logging.LogRecord) -> list[tuple[str, Any]]:
    """The entries of `extra`, in their order."""
    found = islice(record.__dict__.items(), _FIRST_EXTRA, None)
    return [pair for pair in found if pair[0] not in _STANDARD]


def message_with_extras(record: logging.LogRecord) -> str:
    """The message, then ` key=value` for each extra; a traceback follows on indented lines."""
    text = escaped(record.getMessage())
    if pairs := written_pairs(extras(record)):
        text += f" {pairs}"
    return text + "".join([f"\n    {escaped(line)}" for line in traceback_lines(record)])


def traceback_lines(record: logging.LogRecord) -> list[str]:
    """The lines of the record's traceback; most records have none."""
    return _traceback(record).splitlines() if record.exc_info or record.stack_info else []


def written_facts(facts: Mapping[str, Any]) -> str:
    """`written_pairs` of a record whose keys many others have."""
    names = tuple(facts)
    form = _forms.get(names)
    if form is None:
        if len(_forms) >= _FORMS:
            _forms.clear()
        form = _forms[names] = " ".join([f"{name.replace('%', '%%')}=%s" for name in names])
    joined = form % tuple(facts.values())
    return joined if _nothing_to_quote(joined, len(names)) else written_pairs(facts.items())


def written_pairs(pairs: Collection[tuple[str, Any]]) -> str:
    """`key=value key=value`; quotes surround a value that needs them; None is omitted."""
    joined = " ".join([f"{key}={value}" for key, value in pairs])
    if not pairs or _nothing_to_quote(joined, len(pairs)):
        return joined
    return " ".join([f"{key}={written(value)}" for key, value in pairs if value is not None])


def _nothing_to_quote(joined: str, count: int) -> bool:
    """True if `key=value` pairs need no quotes. One check of all pairs is much cheaper than one for
    each: without the plain characters there remain one equals sign for each pair and the blanks between
    them, so no value contains either."""
    octets = joined.encode("utf-8", "replace")
    return (
        octets.translate(None, _PLAIN) == b"= " * (count - 1) + b"="
        and octets.find(b"= ") < 0  # `in` would try the bytes as a number first
        and octets.find(b"=None") < 0
        and not octets.endswith(b"=")
    )


def text_line(created: float, level: str, name: str, message: str) -> str:
    """A line of the text format. `message` must be escaped already."""
    return f"{clock(created)} [{level:>5}] {name}: {message}"


class TextFormat(logging.Formatter):
    """`2026-01-02T03:04:05.678Z [ INFO] smtp_relay.smtp: mail accepted id=… size=5120`."""

    def format(self, record: logging.LogRecord) -> str:
        return text_line(record.created, level_name(record.levelno), record.name, message_with_extras(record))

    def line(self, created: float, name: str, message: str, facts: Mapping[str, Any]) -> str:
        """The line of a record at INFO whose message has nothing to escape."""
        return f"{clock(created)} [ INFO] {name}: {message} {written_facts(facts)}"


class JsonFormat(logging.Formatter):
    """One object per line: time, level, logger, message, every extra, and exception."""

    _encode: Final = staticmethod(json.JSONEncoder(separators=(",", ":"), default=str, skipkeys=True).encode)

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": clock(record.created),
            "level": level_name(record.levelno),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in extras(record):
            entry[f"{key}_" if key in entry else key] = value
        if record.exc_info or record.stack_info:
            entry["exception"] = _traceback(record)
        line = self._encode(entry)
        # The one control character that ASCII JSON does not escape.
        return line.replace("\x7f", "\\u007f") if "\x7f" in line else line


class TemplateFormat(logging.Formatter):
    """The reference's templates: `%(d)s` time, `%(l)s` level, `%(m)s` message with its extras, `%(t)s`
    Unix time in milliseconds. Raises ValueError for anything else."""

    def __init__(self, template: str) -> None:
        super().__init__()
        for found in _PLACEHOLDER.finditer(template):
            name, style = found["name"], found["style"]
            if name is None:
                if found["other"] != "%":
                    raise ValueError(f"'%{found['other']}' is not a placeholder; a percent sign is '%%'")
            elif name not in _VARIABLES or style[-1] not in _VARIABLES[name]:
                raise ValueError(f"'{found[0]}' is not one of %(d)s, %(l)s, %(m)s and %(t)s")
        self._template = template

    def format(self, record: logging.LogRecord) -> str:
        return self._template % {
            "d": clock(record.created),
            "l": f"{level_name(record.levelno):>5}",
            "m": message_with_extras(record),
            "t": int(record.created * 1000),
        }


def formatter(style: str) -> logging.Formatter:
    """The formatter of a `format` option: text (of a file), json or a template. Raises ValueError."""
    if style == "text":
        return TextFormat()
    return JsonFormat() if style == "json" else TemplateFormat(style)


def written(value: object, *, quoted: bool = False) -> str:
    """A value as it stands behind its key. Quotes surround it if it needs them, or with `quoted`."""
    if isinstance(value, list | tuple | set | frozenset):
        value = ",".join(map(str, value))
    text = str(value)
    if not quoted and _BARE(text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped(text)}"'


def _traceback(record: logging.LogRecord) -> str:
    text = ""
    if record.exc_info:
        text = logging.Formatter().formatException(record.exc_info)
    return f"{text}\n{record.stack_info}".strip() if record.stack_info else text
