"""Names of hash algorithms: hashlib's, and those of OpenSSL and therefore of Node's crypto."""

from __future__ import annotations

import hashlib
import re
from typing import Final

# OpenSSL lists each hash again under the names of signatures made with it.
_AROUND: Final = re.compile(
    r"(?:rsa-|ssl3-|id-rsassa-pkcs1-v1_5-with-)?(?P<hash>.+?)(?:withrsaencryption|withrsa)?"
)

_ALSO: Final = {
    "blake2b512": "blake2b",
    "blake2s256": "blake2s",
    "md5_sha1": "md5-sha1",
    "ripemd": "ripemd160",
    "rmd160": "ripemd160",
    "sha1_2": "sha1",
    "shake128": "shake_128",
    "shake256": "shake_256",
}

EXTENDABLE: Final = {"shake_128": 16, "shake_256": 32}
"""Functions whose output has no fixed length, with the number of bytes that Node makes of them."""


def hash_name(name: str) -> str:
    """The algorithm as hashlib names it, from any of its names (`sha256`, `RSA-SHA256`,
    `sha256WithRSAEncryption`, `SHA3-256`). Raises ValueError for a missing one."""
    around = _AROUND.fullmatch(name.lower())
    plain = re.sub("[-/]", "_", around["hash"]) if around else ""
    for candidate in (_ALSO.get(plain, plain), plain.replace("_", "")):
        if candidate in hashlib.algorithms_available:
            return candidate
    raise ValueError(f"{name!r} is not a hash algorithm known here ({', '.join(names())})")


def names() -> list[str]:
    """hashlib's names of all algorithms that this installation has."""
    return sorted(hashlib.algorithms_available)
