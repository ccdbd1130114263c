"""What commands print, safe for a terminal."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from functions.message.text import escaped

_LAYOUT: Final = re.compile("([\n\t])")


class TerminalStream(io.TextIOBase):
    """Passes text on to `stream`: a control character other than a line feed and a tab, or one that turns
    the direction of writing, shows as its escape sequence. Every command prints through it, because mails,
    servers, DNS and configurations may hold any character."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        # DEL is the one control that JSON does not escape, and JSON has no other escape for it.
        parts = _LAYOUT.split(text.replace("\x7f", "\\u007f"))
        self._stream.write("".join([part if part in "\n\t" else escaped(part) for part in parts]))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


@contextmanager
def escaping() -> Iterator[None]:
    """Within this block standard output and standard error are such streams."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(TerminalStream, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
