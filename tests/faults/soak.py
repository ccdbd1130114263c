"""Half of the top rate for a long time: memory, descriptors and threads stay flat, the log silent.

`python -m tests.faults.soak --seconds 1800`; needs Debian's smtp-source (package postfix).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from bench.workloads import Workload, run, write_mail
from tests.support import process
from tests.support.clients.load import settle
from tests.support.servers.relay import Relay

SIZE: Final = 5_000
SESSIONS: Final = 20
WARM: Final = 0.25
"""The part of the run that is for warming up."""

SLACK: Final = 6 * 1_048_576
"""Bytes by which memory may be higher at the end: the allocator's."""


class Sample(NamedTuple):
    """One look at the server: bytes resident, descriptors, threads."""

    seconds: float
    memory: int
    files: int
    threads: int


def look(relay: Relay, began: float) -> Sample:
    """Take a sample."""
    threads = sum(1 for _ in Path(f"/proc/{relay.pid}/task").iterdir())
    return Sample(time.monotonic() - began, relay.resident(), process.open_files(relay.pid), threads)


def top_rate(relay: Relay, mail: Path) -> float:
    """Mails a second that the server accepts at most."""
    load = Workload("top", "", SIZE, SESSIONS, 3_000, reuse=True)
    run(load.scaled(0.3), mail, relay.port, cpu=None)
    began = time.monotonic()
    run(load, mail, relay.port, cpu=None)
    return load.mails / (time.monotonic() - began)


def soak(relay: Relay, mail: Path, rate: float, seconds: float) -> tuple[list[Sample], int]:
    """Send at a rate, a second's mails at a time; returns the samples, and the number of sent mails.
    Mails that a busy machine delays are not made up for, because that would exceed the rate."""
    began = time.monotonic()
    samples = [look(relay, began)]
    load = Workload("soak", "", SIZE, SESSIONS, max(SESSIONS, int(rate)), reuse=True)
    sent = 0
    due = began
    while time.monotonic() - began < seconds:
        due = max(due + 1.0, time.monotonic())
        run(load, mail, relay.port, cpu=None)
        sent += load.mails
        samples.append(look(relay, began))
        relay.forget()
        time.sleep(max(0.0, due - time.monotonic()))
    return samples, sent


def verdict(samples: list[Sample], log: str) -> list[str]:
    """The figures that are not flat."""
    late = samples[int(len(samples) * WARM) :]
    half = len(late) // 2
    wrong = []
    for name, slack in (("memory", SLACK), ("files", 4), ("threads", 1)):
        first = max(getattr(one, name) for one in late[:half])
        last = max(getattr(one, name) for one in late[half:])
        if last > first + slack:
            wrong.append(f"{name} grew from {first} to {last}")
    noise = Counter(entry["message"] for line in log.splitlines() if (entry := _entry(line)))
    return wrong + [f"logged {times} times: {message}" for message, times in noise.items()]


def _entry(line: str) -> dict[str, str] | None:
    entry = json.loads(line) if line.startswith("{") else {}
    return entry if entry.get("level") in ("WARN", "WARNING", "ERROR", "CRITICAL") else None


def main() -> int:
    """Run it; 0 when everything stayed flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1_800)
    parser.add_argument("--rate", type=float, help="mails a second, instead of half of the top rate")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    relay = Relay(folder, {"loggers": [{"type": "CONSOLE", "format": "json", "level": "WARN"}]}).start()
    started = len(relay.log())  # messages about its configuration do not count
    mail = write_mail(folder, SIZE)
    top = top_rate(relay, mail)
    rate = given.rate or top / 2
    print(f"top rate {top:.0f} mails/s; {given.seconds:.0f} s at {rate:.0f} a second", flush=True)
    settle(relay, least=3_900, seconds=60)
    relay.forget()
    samples, sent = soak(relay, mail, rate, given.seconds)
    for sample in samples[:: max(1, len(samples) // 12)]:
        print(
            f"  {sample.seconds:6.0f} s  {sample.memory / 1_048_576:6.1f} MB  {sample.files} descriptors  "
            f"{sample.threads} threads"
        )
    # smtp-source has its answers, so every mail is in its folder or was in it.
    status = relay.stop()
    wrong = verdict(samples, relay.log()[started:]) + ([f"ended with {status}"] if status else [])
    seconds = samples[-1].seconds
    said = "; ".join(wrong) or "flat"
    print(f"{sent} mails in {seconds:.0f} s, {sent / seconds:.0f} a second: {said}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
