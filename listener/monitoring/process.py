"""CPU, memory and descriptors of the serving processes, from /proc.

Names are those that Prometheus' client libraries use, with a `worker` label. Systems without /proc (not
Linux) have none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

_FAMILIES: Final = (
    ("process_cpu_seconds_total", "counter", "User and system CPU time spent in seconds"),
    ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes"),
    ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes"),
    ("process_start_time_seconds", "gauge", "Start time since the epoch in seconds"),
    ("process_threads", "gauge", "Number of threads"),
    ("process_open_fds", "gauge", "Number of open file descriptors"),
    ("process_max_fds", "gauge", "Most file descriptors that may be open"),
)


def process_lines(workers: Iterable[tuple[int, int]], labels: Callable[[str], str]) -> list[str]:
    """Text lines for (worker number, process id) pairs; `labels` writes the label set of a worker. Ended
    processes are omitted."""
    found = [(labels(str(worker)), facts) for worker, pid in workers if (facts := read_process(pid))]
    lines = []
    for name, kind, text in _FAMILIES:
        samples = [f"{name}{label} {facts[name]}" for label, facts in found if name in facts]
        if samples:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples]
    return lines


def read_process(pid: int) -> Mapping[str, float]:
    """The figures of one process by family name; empty if they are not available."""
    folder = Path(f"/proc/{pid}")
    try:
        # proc_pid_stat(5): the fields after the command's closing parenthesis start with the third
        stat = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        facts: dict[str, float] = {
            "process_cpu_seconds_total": (int(stat[11]) + int(stat[12])) / ticks,
            "process_threads": int(stat[17]),
            "process_start_time_seconds": round(boot + int(stat[19]) / ticks, 2),
            "process_virtual_memory_bytes": int(stat[20]),
            "process_resident_memory_bytes": int(stat[21]) * page,
        }
    except (OSError, IndexError, ValueError, AttributeError):  # no /proc, or no CLOCK_BOOTTIME
        return {}
    try:
        facts["process_open_fds"] = len(os.listdir(folder / "fd"))  # noqa: PTH208
        for line in (folder / "limits").read_text().splitlines():
            if line.startswith("Max open files") and (soft := line.split()[3]).isdigit():
                facts["process_max_fds"] = int(soft)
    except OSError:  # another user's process
        pass
    return facts
