"""UUIDv7: ids that sort by time (RFC 9562 section 5.7)."""

from __future__ import annotations

import os
import time
from typing import Final

_AT_ONCE: Final = 409
"""Makes ids. One system call fetches the random bytes of many ids."""

_pool: list[str] = []
"""Random ends of ids that come, each used once."""
os.register_at_fork(after_in_child=_pool.clear)

_last: tuple[int, str] = (0, "00000000-0000-7")
"""A millisecond, and the start of its ids."""


def uuid7(ms: int | None = None) -> str:
    """A new UUIDv7 as 36 lower-case characters; `ms` is the Unix time in milliseconds."""
    global _last  # noqa: PLW0603 - one millisecond's text, replaced as a whole
    now = time.time_ns() // 1_000_000 if ms is None else ms
    start = _last
    if start[0] != now:
        t = f"{now & 0xFFFF_FFFF_FFFF:012x}"
        start = _last = (now, f"{t[:8]}-{t[8:]}-7")
    try:
        return start[1] + _pool.pop()
    except IndexError:
        ends = _ends()
        _pool.extend(ends[1:])
        return start[1] + ends[0]


def _ends() -> list[str]:
    # Version 7 and the variant take six bits of the twenty hexadecimal digits.
    d = os.urandom(10 * _AT_ONCE).hex()
    return [
        f"{d[at : at + 3]}-{_VARIANT[d[at + 3]]}{d[at + 4 : at + 7]}-{d[at + 7 : at + 19]}"
        for at in range(0, 20 * _AT_ONCE, 20)
    ]


_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def uuid7_ms(value: str) -> int:
    """The Unix time in milliseconds that a UUIDv7 carries. Raises ValueError on other text."""
    return int(value[:8] + value[9:13], 16)
