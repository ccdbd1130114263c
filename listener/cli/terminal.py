"""What commands print, safe for a terminal."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from functions.message.text import escaped

_LAYOUT: Final = re.compile("([\n\t])")

_AS_JSON: Final = "smtp-relay-json"
"""The name of the error handler for characters that an encoding lacks."""


class TerminalStream(io.TextIOBase):
    """Passes text on to `stream`: a control character other than a line feed and a tab, or one that turns
    the direction of writing, shows as its escape sequence. Every command prints through it, because mails,
    servers, DNS and configurations may hold any character. `failed` says that the system refused text."""

    failed = False

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        # DEL is the one control that JSON does not escape, and JSON has no other escape for it.
        parts = _LAYOUT.split(text.replace("\x7f", "\\u007f"))
        with self._noted():
            self._stream.write("".join([part if part in "\n\t" else escaped(part) for part in parts]))
        return len(text)

    def flush(self) -> None:
        with self._noted():
            self._stream.flush()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.failed = True
            raise

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


@contextmanager
def escaping() -> Iterator[None]:
    """Within this block standard output and standard error are such streams."""
    _open_standard_streams()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(TerminalStream, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def _open_standard_streams() -> None:
    """The null device stands in for standard streams that the caller closed; characters that a stream's
    encoding lacks are written as JSON escapes, which are valid in JSON and readable elsewhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free descriptor is the closed one, so no socket or file gets its number.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            codecs.register_error(_AS_JSON, _json_escapes)
            stream.reconfigure(errors=_AS_JSON)


def _json_escapes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(
        f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True)
    ), error.end
