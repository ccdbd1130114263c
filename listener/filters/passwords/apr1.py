"""Apache's `$apr1$` hash: MD5-crypt under another prefix, 1,000 rounds of MD5.

The steps are those of Apache Portable Runtime's `apr_md5_encode`. Files of old htpasswd programs
hold it; MD5 is no longer safe for new passwords.
"""

from __future__ import annotations

import hashlib
from typing import Final

PREFIX: Final = "$apr1$"

_ROUNDS: Final = 1000
_ALPHABET: Final = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ORDER: Final = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def apr1(password: bytes, salt: bytes) -> bytes:
    """The whole string, `$apr1$SALT$HASH`. Takes a millisecond or two; `salt` is at most 8 bytes."""
    state = _md5(_first_text(password, salt))
    for number in range(_ROUNDS):
        parts = [password if number & 1 else state]
        if number % 3:
            parts.append(salt)
        if number % 7:
            parts.append(password)
        parts.append(state if number & 1 else password)
        state = _md5(b"".join(parts))
    return PREFIX.encode() + salt + b"$" + _encoded(state)


def _first_text(password: bytes, salt: bytes) -> bytes:
    inner = _md5(password + salt + password)
    text = password + PREFIX.encode() + salt
    text += (inner * (len(password) // len(inner) + 1))[: len(password)]
    left = len(password)
    while left:
        text += b"\0" if left & 1 else password[:1]
        left >>= 1
    return text


def _encoded(state: bytes) -> bytes:
    out = bytearray()
    for a, b, c in _ORDER:
        out += _base64(state[a] << 16 | state[b] << 8 | state[c], 4)
    return bytes(out + _base64(state[11], 2))


def _base64(value: int, digits: int) -> bytes:
    """Six bits to a digit, the lowest first."""
    return bytes(_ALPHABET[value >> 6 * place & 63] for place in range(digits))
