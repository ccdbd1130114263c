"""The limit on open files is raised for the expected clients."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys

import pytest

from listener.server.file_limit import OPEN_MAX, make_room
from tests.support.servers.relay import ROOT

_CODE = """
import logging, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
logging.basicConfig(format="%(message)s")
from listener.server.file_limit import make_room
make_room(int(sys.argv[3]))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits_after(soft: int, hard: int, clients: int) -> tuple[int, str]:
    """The soft limit afterwards, and the log, in a process that began with these limits."""
    command = [sys.executable, "-c", _CODE, str(soft), str(hard), str(clients)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return int(done.stdout.split()[0]), done.stderr


@pytest.mark.parametrize(
    ("soft", "hard", "clients", "after"),
    [
        (256, 8000, 2000, 4128),
        (256, 3000, 2000, 3000),
        (5000, 8000, 2000, 5000),
        (256, 8000, 0, 8000),
        (256, 256, 100, 256),
    ],
)
def test_raised_as_far_as_it_goes(soft: int, hard: int, clients: int, after: int) -> None:
    assert limits_after(soft, hard, clients) == (after, "")


def test_too_low_a_limit_is_told() -> None:
    soft, said = limits_after(256, 512, 2000)
    assert soft == 512
    assert "enough for about 384 of the 2000 clients" in said


def test_nothing_is_lowered() -> None:
    assert logging.getLogger("smtp_relay.server")
    assert limits_after(1000, 8000, 10)[0] == 1000


def test_a_system_that_names_no_limit_and_has_one_gets_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS says that the limit is infinite, and takes no more than OPEN_MAX."""
    granted = [256]

    def limit(which: int, limits: tuple[int, int]) -> None:
        if limits[0] > OPEN_MAX:
            raise ValueError("current limit exceeds maximum limit")
        granted.append(limits[0])

    monkeypatch.setattr(resource, "getrlimit", lambda which: (granted[-1], resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", limit)
    make_room(20_000)
    assert granted == [256, OPEN_MAX]
    make_room(1_000)
    assert granted == [256, OPEN_MAX]
