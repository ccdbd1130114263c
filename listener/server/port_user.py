"""The process that uses a port, as far as this process may see (Linux, proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_LISTENS: Final = "0A"  # the state in /proc/net/tcp
_MOST: Final = 10_000
"""Processes to look at, because a message is not worth more."""


def port_user(port: int) -> str:
    """`process 4711 (smtp-relay)`, or "another program" if it cannot be seen."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for pid in _processes() if sockets else ():
        with suppress(OSError):
            if any(str(one.readlink()) in sockets for one in (_PROC / str(pid) / "fd").iterdir()):
                return f"process {pid} ({_name(pid)})"
    return "another program"


def _inodes(port: int) -> Iterator[str]:
    wanted = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(wanted) and fields[3] == _LISTENS:
                    yield fields[9]


def _processes() -> list[int]:
    with suppress(OSError):
        return [int(one.name) for one in _PROC.iterdir() if one.name.isdigit()][:_MOST]
    return []


def _name(pid: int) -> str:
    """The program's name; for Python that of its module or script. The code of `python -c` is no name, and
    may hold secrets."""
    words = [os.fsdecode(one) for one in (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0") if one]
    flags = list(takewhile(lambda one: one.startswith("-"), words[1:]))
    has_code = any("c" in one for one in flags if not one.startswith("--"))
    script = "" if has_code else next(iter(words[1 + len(flags) :]), "")
    python = bool(words) and Path(words[0]).name.startswith("python")
    return Path(script if python and script else words[0]).name if words else "unnamed"
