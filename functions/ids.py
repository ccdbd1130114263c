"""UUIDv7: ids that sort by time (RFC 9562 section 5.7)."""

from __future__ import annotations

import os
import time


def uuid7(ms: int | None = None) -> str:
    """A new UUIDv7 as 36 lower-case characters; `ms` is the Unix time in milliseconds."""
    now = time.time_ns() // 1_000_000 if ms is None else ms
    random = int.from_bytes(os.urandom(10), "big")
    value = (now & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7000 << 64 | (random >> 68) << 64
    value |= 0x8000_0000_0000_0000 | (random & 0x3FFF_FFFF_FFFF_FFFF)
    h = f"{value:032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def uuid7_ms(value: str) -> int:
    """The Unix time in milliseconds that a UUIDv7 carries. Raises ValueError on other text."""
    return int(value[:8] + value[9:13], 16)
