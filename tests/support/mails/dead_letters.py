"""Dead letters of a running relay's folder spool, and the command for them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

from functions.local import layout as folder
from tests.support.net import PATIENCE, wait_until
from tests.support.servers.relay import ROOT, Relay


def records(relay: Relay) -> list[dict[str, Any]]:
    """The dead records now, as JSON values."""
    found = []
    for part in folder.parts(relay.spool):
        with contextlib.closing(part.connect()) as db:
            found += [json.loads(text) for (text,) in db.execute("SELECT record FROM dead ORDER BY id")]
    return found


def wait_for_records(relay: Relay, count: int, *, seconds: float = PATIENCE) -> list[dict[str, Any]]:
    """The same, once there are so many."""
    wait_until(lambda: len(records(relay)) >= count, seconds=seconds, what=f"{count} dead letters")
    return records(relay)


def waiting(relay: Relay) -> int:
    """How many mails the spool holds that are neither finished nor parked."""
    return _count(relay, "SELECT count(*) FROM mail WHERE parked = 0")


def held(relay: Relay) -> int:
    """How many mails the spool holds."""
    return _count(relay, "SELECT count(*) FROM mail")


def attempts(relay: Relay) -> int:
    """How many runs over the mails in the spool were recorded."""
    return _count(relay, "SELECT coalesce(sum(attempts), 0) FROM mail")


def deadletter(relay: Relay, *arguments: str) -> str:
    """Run the command against the relay's configuration; returns its output."""
    done = subprocess.run(
        [sys.executable, "-m", "listener.cli.main", "deadletter", *arguments, "--config", str(relay.path)],
        cwd=relay.folder,
        env={**relay.environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _count(relay: Relay, query: str) -> int:
    total = 0
    for part in folder.parts(relay.spool):
        with contextlib.closing(part.connect()) as db:
            total += db.execute(query).fetchone()[0]
    return total
