"""Reads mails made of pieces of the cases, by chance: whatever a stranger sends, reading it raises nothing.

    python -m tests.fuzz.reading INPUTS [SEED]     reads so many mails; prints speed, slowest mail, coverage

The coverage is the share of the lines of functions/message/reading and of the modules beside it that the
first inputs reach.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from functions.message import addresses, charset, fields, html_text, mime, parameters
from functions.message.event import cloudevent
from functions.message.mail import BytesContent, Mail
from functions.message.mime import Limits, read_parts
from functions.message.reading import (
    block,
    bodies,
    dates,
    eastern,
    flowed,
    labels,
    names,
    places,
    structure,
    transfer,
)
from tests.support.mails.reading.cases import CASES
from tests.support.mails.spooled import envelope_of

MODULES: Final = (
    *(addresses, charset, fields, html_text, mime, parameters),
    *(block, bodies, dates, eastern, flowed, labels, names, places, structure, transfer),
)
TRACED: Final = 4_000
"""Inputs that are read with a tracer, which makes them ten times as slow."""

MAX_BYTES: Final = 65_536

_MAIL_ID: Final = "019b7d2a-0000-7000-8000-000000000000"

TOKENS: Final = (
    *(b"\r\n", b"\r\n\r\n", b"--", b"=?", b"?=", b"?B?", b"?q?", b"=", b"==", b";", b"(", b")", b"<", b">"),
    *(b'"', b"'", b"\\", b",", b":", b"@", b"%", b"*0*=", b"\x1b$B", b"\x1b(B", b"\xef\xbb\xbf", b"\x00"),
    *(
        b"\xff",
        b"\x80",
        b"&#",
        b"&amp",
        b"<!--",
        b"<pre>",
        b"<title",
        b"From ",
        b"begin 644 x\n",
        b" ",
        b"\t",
    ),
    *(
        b"X-Priority: 2\r\n",
        b"Importance: low\r\n",
        b"\x1b$A",
        b"\x1b$(D",
        b"\x0e",
        b"\x0f",
        b"=C3=",
        b"-0530",
    ),
    *(
        b"charset=",
        b"boundary=",
        b"multipart/",
        b"text/html",
        b"format=flowed",
        b"base64",
        b"+9999",
        b"24:00",
    ),
)
MAILS: Final = tuple(case.mail for case in CASES)


def inputs(seed: int) -> Iterator[bytes]:
    """Mails without end, the same for each seed."""
    chance = random.Random(seed)
    while True:
        mail = bytearray(chance.choice(MAILS))
        for _ in range(1 + int(chance.expovariate(0.5))):
            _change(chance, mail)
        yield bytes(mail[:20_000])


def _change(chance: random.Random, mail: bytearray) -> None:
    start = chance.randrange(len(mail) + 1)
    end = min(len(mail), start + int(chance.expovariate(0.05)))
    match chance.randrange(6):
        case 0:
            del mail[start:end]
        case 1:
            mail[start:start] = chance.choice(TOKENS) * chance.choice((1, 1, 1, 2, 50))
        case 2:
            mail[start:end] = chance.choice(TOKENS)
        case 3:
            other = chance.choice(MAILS)
            at = chance.randrange(len(other) + 1)
            mail[start:end] = other[at : at + int(chance.expovariate(0.01))]
        case 4:
            mail[start:start] = mail[start:end]
        case _:
            mail[start:end] = bytes(chance.randrange(256) for _ in range(min(end - start, 8)))


def read(content: bytes) -> None:
    """Read everything of a mail. Raises AssertionError where an event is not as it has to be."""
    envelope = envelope_of(content, flows=("f",), id=_MAIL_ID, received=0)
    parts = read_parts(Mail(envelope, BytesContent(content)), "f", Limits(text=MAX_BYTES))
    event = cloudevent.build(envelope, parts, flow="f", max_bytes=MAX_BYTES)
    assert len(event) <= MAX_BYTES
    json.loads(event)
    for attachment in parts.attachments:
        assert attachment.size == len(attachment.payload())
        assert len(attachment.leaf.sha256) == 64
    assert isinstance(parts.fields, tuple)


class Lines:
    """The lines of MODULES that ran while this was the tracer."""

    def __init__(self) -> None:
        self.files: Final = {str(Path(module.__file__ or "")): module for module in MODULES}
        self.seen: set[tuple[str, int]] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in self.files:
            return None
        if event == "line":
            self.seen.add((name, frame.f_lineno))
        return self

    def report(self) -> str:
        """The share of the lines of functions that ran, and the lines that did not, by module."""
        said = []
        total = ran = 0
        for name in self.files:
            code = compile(Path(name).read_text(), name, "exec")
            lines = {line for each in _functions(code) for line in _lines(each)}
            missed = sorted(line for line in lines if (name, line) not in self.seen)
            total += len(lines)
            ran += len(lines) - len(missed)
            said.append(f"  {Path(name).name}: {len(lines) - len(missed)} of {len(lines)}, not {missed}")
        return "\n".join([f"coverage {100 * ran / total:.1f} % of {total} lines", *said])


def _functions(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & 0x2:  # a function's body, and no class's
                yield constant
            yield from _functions(constant)


def _lines(code: CodeType) -> set[int]:
    return {line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno}


def main(count: int, seed: int) -> None:
    lines = Lines()
    slowest, which = 0.0, b""
    began = time.monotonic()
    for number, mail in enumerate(inputs(seed)):
        if number == count:
            break
        tracer = lines if number < TRACED else None
        start = time.perf_counter()
        try:
            sys.settrace(tracer)
            read(mail)
        except BaseException:
            sys.settrace(None)
            print(f"input {number} of seed {seed}: {mail!r}", flush=True)
            raise
        finally:
            sys.settrace(None)
        took = time.perf_counter() - start
        if tracer is None and took > slowest:
            slowest, which = took, mail
    seconds = time.monotonic() - began
    print(
        f"{count} inputs of seed {seed} in {seconds:.0f} s, nothing raised; {threading.active_count()} thread"
    )
    print(f"slowest {slowest * 1000:.1f} ms, {len(which)} bytes")
    print(lines.report())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
