"""SMTP transcripts as tests.

A transcript is lines of `S:` (the server says) and `C:` (the client says):

    S: 220 *                 one line; `*` stands for any text
    C: EHLO client.example
    S: 250-...               the rest of a reply of several lines (or one)
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<c@d.example>     client lines that follow each other go out in one packet
    S: 250 2.1.0 *
    S: 250 2.1.5 *
    C: QUIT
    S: 221 2.0.0 *
    S: <closed>              the server closes the connection

`\\xNN`, `\\r`, `\\n` and `\\0` in client lines are single bytes; `C: <close>` leaves.
Lines starting with `#` are comments.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from tests.support.clients.wire import Closed, Wire


def play(port: int, transcript: str, *, chunks: int | None = None) -> None:
    """Compare the server with the transcript. Raises AssertionError that shows how far it went."""
    told: list[str] = []
    with Wire(port) as wire:
        pending: list[str] = []
        try:
            for who, text in _lines(transcript):
                if who == "C":
                    pending.append(text)
                    continue
                _speak(wire, pending, told, chunks)
                _expect(wire, text, told)
            _speak(wire, pending, told, chunks)
            assert _left(told) or wire.silent(), "the server says more"
        except (AssertionError, Closed, TimeoutError) as error:
            raise AssertionError("\n".join([*told, f"{type(error).__name__}: {error}"])) from None


def _lines(transcript: str) -> Iterator[tuple[str, str]]:
    for line in transcript.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        who, _, text = stripped.partition(":")
        if who not in ("S", "C"):
            raise ValueError(f"a transcript line starts with 'S:' or 'C:': {line!r}")
        yield who, text.removeprefix(" ")


def _speak(wire: Wire, pending: list[str], told: list[str], chunks: int | None) -> None:
    if not pending:
        return
    told += [f"C: {text}" for text in pending]
    if pending[-1] == "<close>":
        wire.socket.close()
    else:
        wire.send(b"".join(octets(text) + b"\r\n" for text in pending), chunks=chunks)
    pending.clear()


def _expect(wire: Wire, pattern: str, told: list[str]) -> None:
    if pattern == "<closed>":
        rest = wire.rest()
        assert rest == b"", f"expected the end of the connection, got {rest!r}"
        told.append("S: <closed>")
        return
    if pattern.endswith("-..."):
        while (line := _next(wire, pattern, told))[3:4] == "-":
            assert line.startswith(pattern[:3]), f"expected {pattern!r}"
        assert line.startswith(pattern[:3]), f"expected {pattern!r}"
        return
    line = _next(wire, pattern, told)
    assert fnmatchcase(line, pattern.replace("[", "[[]")), f"expected {pattern!r}"


def _next(wire: Wire, pattern: str, told: list[str]) -> str:
    try:
        line = wire.line()
    except (Closed, TimeoutError) as error:
        raise AssertionError(f"expected {pattern!r}, {error}") from None
    told.append(f"S: {line}")
    return line


def _left(told: list[str]) -> bool:
    return bool(told) and told[-1] in ("C: <close>", "S: <closed>")


def octets(text: str) -> bytes:
    """A client line as bytes, its escapes resolved."""
    if "\\" not in text:
        return text.encode()
    return re.sub(
        rb"\\(x[0-9a-fA-F]{2}|r|n|0|\\)",
        lambda match: codecs.decode(match[0].decode(), "unicode_escape").encode("latin-1"),
        text.encode(),
    )
