"""The kernel's figures of a process and its children: CPU, memory, open files (Linux)."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def tree(pid: int) -> list[int]:
    """The process and all its living descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        found.append(current)
        todo += children.get(current, [])
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time used so far by the tree, with that of its waited-for children."""
    total = 0
    for each in tree(pid):
        if stat := _stat(each):
            total += sum(int(value) for value in stat[11:15])  # utime stime cutime cstime
    return total / _TICKS


def resident(pid: int) -> int:
    """Bytes resident now, of one process."""
    return _status(pid, "VmRSS") * 1024


def peak_resident(pid: int) -> int:
    """The most bytes that one process had resident since it began or `reset_peak` was called."""
    return _status(pid, "VmHWM") * 1024


def reset_peak(pid: int) -> None:
    """Let `peak_resident` count from now on, of the whole tree (proc(5), clear_refs)."""
    for each in tree(pid):
        (_PROC / str(each) / "clear_refs").write_text("5")


class Growth:
    """How far a process and its descendants grow from now on, all together."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = {each: resident(each) for each in tree(pid)}
        reset_peak(pid)

    def most(self) -> int:
        """The sum of how far each one grew at its peak, so no less than the tree's own peak. Processes
        started since count as a whole."""
        return sum(peak_resident(each) - self._before.get(each, 0) for each in tree(self._pid))


def open_files(pid: int) -> int:
    """How many file descriptors one process holds."""
    return sum(1 for _ in (_PROC / str(pid) / "fd").iterdir())


def is_listening(pid: int, port: int) -> bool:
    """True if a process holds a socket that listens on the port."""
    wanted = f":{port:04X}"
    listening = {
        line.split()[9]
        for line in (_PROC / "net" / "tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(wanted) and line.split()[3] == "0A"
    }
    try:
        held = [str(entry.readlink()) for entry in (_PROC / str(pid) / "fd").iterdir()]
    except OSError:
        return False
    return any(f"socket:[{inode}]" in held for inode in listening)


def command_line(pid: int) -> bytes:
    """Program and arguments, NUL between them; b"" for a process that is gone."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third (state) on: the parent is [1], utime [11]."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _status(pid: int, field: str) -> int:
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0
