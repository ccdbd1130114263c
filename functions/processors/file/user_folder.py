"""The folder of an SMTP user: two users never share one, on any file system."""

from __future__ import annotations

import hashlib
import re
from typing import Final

MOST: Final = 120
"""Bytes of a folder's name; of longer ones, a digest takes the place of the end."""

_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_@+.")
_ENCODED: Final = re.compile(r"=([0-9a-f]{2})")


def folder_of_user(user: str) -> str:
    """The name of a user's folder: small letters, digits and `-_@+.` as they are, every other byte of its
    UTF-8 as `=hh`. A dot at the start or end is encoded too: it would hide the folder, or lead out of it."""
    data = user.encode("utf-8", "surrogatepass")
    last = len(data) - 1
    name = "".join(
        chr(byte) if byte in _KEPT and not (byte == 0x2E and at in (0, last)) else f"={byte:02x}"
        for at, byte in enumerate(data)
    )
    if len(name) <= MOST:
        return name
    # No other name holds a "~".
    return f"{name[: MOST - 33]}~{hashlib.sha256(data).hexdigest()[:32]}"


def user_of_folder(name: str) -> str:
    """The user of a folder, "" if it is no user's. That of a shortened name is the name itself."""
    if re.fullmatch(rf".{{{MOST - 33}}}~[0-9a-f]{{32}}", name):
        return name
    try:
        data = _ENCODED.sub(lambda found: chr(int(found[1], 16)), name).encode("latin-1")
        user = data.decode("utf-8", "surrogatepass")
    except UnicodeError:
        return ""
    return user if folder_of_user(user) == name else ""
