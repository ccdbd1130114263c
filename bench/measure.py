"""One round: start a server, warm it, load it, wait until all mails are delivered, read the meters, then
time single mails if asked: alone, and beside the load again.

A file system may take long to create files just after others were deleted. ext4 without a journal
passes over inodes deleted in the last half minute, one by one, so a file costs 250 µs instead of
15. Therefore nothing is deleted between rounds (files are emptied), and each round waits until
creating files is quick.
"""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from bench import latency
from bench.latency import Latency
from bench.servers import Running, Server
from bench.workloads import Workload, idle_connections, run, sending, write_mail
from tests.support import process
from tests.support.net import free_port

_QUIET: Final = 0.15  # seconds without CPU time used, after the last mail arrived: the drain is over
_STUCK: Final = 5.0  # the same, while mails are in the spool: they stay there
_STEP: Final = 0.01
_PROBES: Final = 50
_QUICK: Final = 60e-6  # seconds to create an empty file


@dataclass(frozen=True)
class Sample:
    """The results of one round. `memory` is the largest peak of a single process of the tree, in bytes;
    `alone` and `loaded` are the times of mails without and with the load beside them, if they were taken."""

    server: str
    workload: str
    fsync: bool
    mails: int
    seconds: float
    cpu: float
    memory: int
    alone: Latency | None = None
    loaded: Latency | None = None

    @property
    def rate(self) -> float:
        """Mails a second."""
        return self.mails / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        """Seconds of CPU for a thousand mails."""
        return self.cpu / self.mails * 1000

    def record(self) -> dict[str, Any]:
        """The sample for the raw results file."""
        return asdict(self)


def one_round(
    server: Server,
    workload: Workload,
    work: Path,
    *,
    fsync: bool,
    pin: bool,
    mail: Path | None = None,
    timed: int = 0,
) -> Sample:
    """Measure one server on one workload. The server is new, because rounds must not age it, and so is
    its folder, which the caller removes after the last round. `mail` replaces the workload's own; `timed`
    is the number of mails for each connection that takes their times."""
    work.mkdir(parents=True)
    mail = mail or write_mail(work.parent, workload.size)
    port = free_port()
    started = server.start(work, port, fsync=fsync, cpu=0 if pin and server.workers == 1 else None)
    try:
        _calm(started.received)
        load_cpu = 1 if pin else None
        warm = workload.scaled(0.05)
        run(warm, mail, port, cpu=load_cpu)
        _settle(started, warm.mails * server.files)
        with idle_connections(workload.idle, port):
            process.reset_peak(started.process.pid)
            used, began = started.cpu_seconds(), time.monotonic()
            run(workload, mail, port, cpu=load_cpu)
            ended = _settle(started, (warm.mails + workload.mails) * server.files)
            pids = process.tree(started.process.pid)
            sample = Sample(
                server=server.name,
                workload=workload.name,
                fsync=fsync,
                mails=workload.mails,
                seconds=ended - began,
                cpu=started.cpu_seconds() - used,
                memory=max(process.peak_resident(pid) for pid in pids),
            )
            if not timed:
                return sample
            alone, loaded = _times(workload, mail, port, timed, cpu=load_cpu)
            sent = warm.mails + workload.mails + _beside(workload).mails + alone.mails + loaded.mails
            _settle(started, sent * server.files)
            return replace(sample, alone=alone, loaded=loaded)
    finally:
        started.stop()
        for path in work.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)


def _beside(workload: Workload) -> Workload:
    """The load that runs while mails are timed."""
    return workload.scaled(0.5)


def _times(
    workload: Workload, mail: Path, port: int, mails: int, *, cpu: int | None
) -> tuple[Latency, Latency]:
    """The times of mails, first alone, then beside the load."""
    alone = latency.measure(port, mail, mails=mails, reuse=workload.reuse)
    with sending(_beside(workload), mail, port, cpu=cpu) as sender:
        loaded = latency.measure(port, mail, reuse=workload.reuse, until=lambda: sender.poll() is not None)
    return alone, loaded


def _calm(folder: Path) -> None:
    """Wait until creating files in the folder is quick, a minute at most. The files stay, hidden."""
    deadline = time.monotonic() + 60
    for number in itertools.count():
        began = time.perf_counter()
        for each in range(_PROBES):
            (folder / f".probe-{number}-{each}").touch(exist_ok=False)
        if (time.perf_counter() - began) / _PROBES < _QUICK or time.monotonic() > deadline:
            return
        time.sleep(2)


def _settle(running: Running, mails: int) -> float:
    """Wait until all mails are in the folder and the server has no work left; returns the moment of its
    last work."""
    last = time.monotonic()
    used = running.cpu_seconds()
    deadline = last + 300
    while True:
        time.sleep(_STEP)
        now, total = time.monotonic(), running.cpu_seconds()
        if total > used:
            last, used = now, total
        elif now - last > _QUIET and _is_done(running, mails, stuck=now - last > _STUCK):
            break
        if now > deadline:
            raise TimeoutError(f"{running.arrived()} of {mails} mails arrived")
    if running.files and (arrived := running.arrived()) != mails:
        raise AssertionError(f"{arrived} files for {mails} mails")
    if task := running.task():
        raise AssertionError(f"{task} mails are still in the spool of an idle server")
    return last


def _is_done(running: Running, mails: int, *, stuck: bool) -> bool:
    """True if all mails arrived and none is in the spool, where they may also be `stuck`: on a busy machine
    the server may wait for the processor with work left."""
    return (not running.files or running.arrived() >= mails) and (stuck or not running.task())
