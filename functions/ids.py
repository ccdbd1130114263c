"""UUIDv7: ids that sort by time (RFC 9562 section 5.7)."""

from __future__ import annotations

import os
import time
from typing import Final

_AT_ONCE: Final = 409
"""Makes ids. One system call fetches the random bytes of many ids."""

_pool: list[bytes] = []
os.register_at_fork(after_in_child=_pool.clear)


def uuid7(ms: int | None = None) -> str:
    """A new UUIDv7 as 36 lower-case characters; `ms` is the Unix time in milliseconds."""
    now = time.time_ns() // 1_000_000 if ms is None else ms
    try:
        random = _pool.pop()
    except IndexError:
        octets = os.urandom(10 * _AT_ONCE)
        _pool.extend([octets[at : at + 10] for at in range(10, 10 * _AT_ONCE, 10)])
        random = octets[:10]
    # Version 7 and the variant take six bits of the twenty hexadecimal digits.
    d = random.hex()
    t = f"{now & 0xFFFF_FFFF_FFFF:012x}"
    return f"{t[:8]}-{t[8:]}-7{d[:3]}-{_VARIANT[d[3]]}{d[4:7]}-{d[7:19]}"


_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def uuid7_ms(value: str) -> int:
    """The Unix time in milliseconds that a UUIDv7 carries. Raises ValueError on other text."""
    return int(value[:8] + value[9:13], 16)
