"""Mails made by chance: reading them raises nothing, and takes little time for each byte."""

from __future__ import annotations

import time

from tests.fuzz.budget import SECONDS
from tests.fuzz.reading import inputs, read

SEED = 2047


def test_nothing_raises() -> None:
    ends = time.monotonic() + SECONDS / 3
    for number, mail in enumerate(inputs(SEED)):
        try:
            read(mail)
        except Exception as fault:
            raise AssertionError(f"input {number} of seed {SEED}: {mail!r}") from fault
        if time.monotonic() > ends:
            break
    assert number > 100
