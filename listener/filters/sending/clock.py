"""A clock for windows of time: it goes on over restarts, and a jump of the wall clock does not move it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")

try:
    _STEADY = time.CLOCK_BOOTTIME
except AttributeError:  # macOS, whose monotonic clock goes on in sleep too
    _STEADY = time.CLOCK_MONOTONIC


_steady: Final = partial(time.clock_gettime_ns, _STEADY)
"""Nanoseconds since the machine started, those of its sleep included where the system counts them."""


def _boot() -> int:
    """A number of this start of the machine; 0 if the system has none."""
    try:
        return int.from_bytes(hashlib.blake2b(_BOOT.read_bytes(), digest_size=7).digest())
    except OSError:
        return 0


class Clock(NamedTuple):
    """The clocks of the machine, in nanoseconds, and the number of its start."""

    steady: Callable[[], int] = _steady
    wall: Callable[[], int] = time.time_ns
    boot: Callable[[], int] = _boot


def offset(clock: Clock, *, boot: int, old: int, last: int, wall: int) -> int:
    """The number of nanoseconds to add to the steady clock. `boot` is the start of the machine in which
    `old` was that number; `last` is the latest time that was counted, and `wall` the wall clock's then.
    After another start only the wall clock can tell how long the machine was off."""
    now = clock.steady()
    if boot and boot == clock.boot() and now + old >= last:
        return old
    return last + max(0, clock.wall() - wall) - now
