"""The additions to a function's process beside its code: a wall clock that can be set, and a log in a
file that survives the process, as the cloud's own log does."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.faults.campaign.clocked import follow
from tests.support.servers.relay import ROOT

_LOGGERS: Final = ("delivery", "function", "output", "spool", "sweep")

_SITE: Final = """\
import sys
sys.path.append({root!r})
from tests.faults.campaign.clouds.observation import install
sys.path.remove({root!r})
install({clock!r}, {log!r})
"""


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        about = {name: getattr(record, name, None) for name in ("id", "flow", "output", "in_doubt", "reason")}
        text = self.formatException(record.exc_info) if record.exc_info else None
        return json.dumps({"message": record.getMessage(), **about, "traceback": text}, default=str)


def plant(folder: Path, clock: Path, log: Path) -> None:
    """Have every Python process that finds this folder on its path run by that clock and write that
    log."""
    folder.mkdir(parents=True, exist_ok=True)
    text = _SITE.format(root=str(ROOT), clock=str(clock), log=str(log))
    (folder / "sitecustomize.py").write_text(text)


def install(clock: str, log: str) -> None:
    """In the function's process."""
    real = time.time
    follow(clock)
    if "PUBSUB_EMULATOR_HOST" in os.environ:
        _spare_grpc(real)
    handler = logging.FileHandler(log, delay=True)
    handler.setFormatter(_Lines())
    for name in _LOGGERS:
        logging.getLogger(f"smtp_relay.{name}").addHandler(handler)


def _spare_grpc(real: Callable[[], float]) -> None:
    """gRPC hands moments of Python's clock to its core, which uses the machine's clock: between the
    two, every deadline would be missed."""
    import grpc._channel

    class Clock:
        time = staticmethod(real)

        def __getattr__(self, name: str) -> Any:
            return getattr(time, name)

    grpc._channel.time = Clock()  # type: ignore[attr-defined]


def entries(log: Path) -> list[dict[str, Any]]:
    """All lines that the processes wrote; the last line of a killed one may be torn."""
    found = []
    for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def doubts(lines: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """How often each mail's output was logged as in doubt."""
    return Counter((str(line["id"]), str(line["output"])) for line in lines if line.get("in_doubt"))
