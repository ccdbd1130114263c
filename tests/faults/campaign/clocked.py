"""The relay with a wall clock that can be set from outside:
`python -m tests.faults.campaign.clocked FILE serve CONFIG`. The file holds one double, the seconds by
which the clock is ahead; workers share it.

(Debian's faketime cannot do this: with it `time.sleep` fails in Python 3.11.)
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

_OFFSET = struct.Struct("d")


def set_clock(path: Path, seconds: float) -> None:
    """Set the clock of all processes that use this file."""
    if not path.exists():
        path.write_bytes(_OFFSET.pack(seconds))
        return
    with path.open("r+b") as file:
        file.write(_OFFSET.pack(seconds))


def follow(path: str) -> None:
    """Use the clock of this file from now on."""
    with Path(path).open("rb") as file:
        shared = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + _OFFSET.unpack_from(shared)[0]
    time.time_ns = lambda: real_ns() + int(_OFFSET.unpack_from(shared)[0] * 1e9)


if __name__ == "__main__":
    follow(sys.argv[1])
    from listener.cli.main import main

    raise SystemExit(main(sys.argv[2:]))
