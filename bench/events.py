"""Measures what the event of a mail costs: over the corpus, and for each megabyte of an attachment.

    .venv/bin/python -m bench.events [FOLDER …]

The corpus is the sample mails of CPython's email tests, and every mail (`*.eml`) of the folders.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from functions.message.envelope import Envelope
from functions.message.event.cloudevent import build
from functions.message.mail import BytesContent, Mail
from functions.message.mime import read_parts
from tests.support.mails.spooled import envelope_of

ROUNDS = 7
MEGABYTE = 1_048_576


def mails(folders: list[str]) -> Iterator[bytes]:
    paths = sorted(Path("/usr/lib").glob("python3.*/test/test_email/data/msg_*.txt"))
    for folder in folders:
        paths += sorted(Path(folder).glob("*.eml"))
    for path in paths:
        yield path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def cost(envelope: Envelope, content: bytes) -> float:
    """Milliseconds of reading a mail and building its event: the least of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        mail = Mail(envelope, BytesContent(content), received_here=True)
        build(envelope, read_parts(mail, "in"), flow="in", text_limit=8192, max_bytes=MEGABYTE)
        best = min(best, time.perf_counter() - start)
    return best * 1000


def main() -> None:
    costs = sorted(cost(envelope_of(content), content) for content in mails(sys.argv[1:]))
    middle, high = costs[len(costs) // 2], costs[int(len(costs) * 0.99)]
    print(f"{len(costs)} mails: median {middle:.3f} ms, p99 {high:.3f} ms, worst {costs[-1]:.3f} ms")

    data = os.urandom(20 * MEGABYTE)
    head = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    content = head + base64.encodebytes(data).replace(b"\n", b"\r\n")
    start = time.perf_counter()
    hashlib.sha256(data).digest()
    alone = (time.perf_counter() - start) * 1000 / 20
    each = cost(envelope_of(content), content) / 20
    print(f"attachment of 20 MiB: {each:.2f} ms/MiB for its event; sha256 alone {alone:.2f} ms/MiB")


if __name__ == "__main__":
    main()
