"""A round ends when the server's work has ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import measure
from bench.servers import Running


class Waiting(Running):
    """A server without a tick of CPU, all of whose mails arrived; its spool holds what it is told."""

    spool: Iterator[int]

    def arrived(self) -> int:
        return 7

    def task(self) -> int:
        return next(self.spool)

    def cpu_seconds(self) -> float:
        return 1.0


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Waiting:
    monkeypatch.setattr(measure, "_QUIET", 0.01)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        return Waiting(ended, tmp_path, files=True)


def test_a_server_that_waits_for_the_processor_has_not_ended(waiting: Waiting) -> None:
    waiting.spool = iter([2, 1, 0, 0])
    measure._settle(waiting, 7)
    assert list(waiting.spool) == []


def test_mails_that_stay_in_the_spool_are_an_error(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_STUCK", 0.05)
    waiting.spool = iter(lambda: 2, 0)
    with pytest.raises(AssertionError, match="2 mails are still in the spool"):
        measure._settle(waiting, 7)


def test_a_mail_too_much_is_an_error(waiting: Waiting) -> None:
    waiting.spool = iter(lambda: 0, 1)
    with pytest.raises(AssertionError, match="7 files for 6 mails"):
        measure._settle(waiting, 6)
