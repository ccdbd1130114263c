"""Stored passwords, and the check of one (docs/filters/static-auth.md).

Forms: `plain:…`, `ALGO:hex` (with a salt: HMAC of the password, the salt being the key), argon2 and
bcrypt strings; and in htpasswd files also Apache's `$apr1$` and `{SHA}`. Every comparison takes the
same time wherever the first difference is. No message quotes any part of a stored password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Any, Final, Protocol

from functions.options.hash_names import EXTENDABLE, hash_name

BCRYPT_LIMIT: Final = 72
"""Bytes of a password that bcrypt reads; the rest has no effect, in any implementation."""

MAX_SECONDS: Final = 10.0
"""Roughly the seconds that checking one password may take; a running check cannot be stopped."""

_ARGON2: Final = re.compile(
    r"\$argon2(?:id|i|d)\$(?:v=[0-9]{1,3}\$)?m=[0-9]{1,10},t=[0-9]{1,10},p=[0-9]{1,8}"
    r"\$(?P<salt>[A-Za-z0-9+/]{11,})\$(?P<hash>[A-Za-z0-9+/]{16,})"
)
_BCRYPT: Final = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53}")

APR1_PREFIX: Final = "$apr1$"

_ROUNDS: Final = 1000
_ALPHABET: Final = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ORDER: Final = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))
_APR1: Final = re.compile(re.escape(APR1_PREFIX) + r"(?P<salt>[./A-Za-z0-9]{0,8})\$[./A-Za-z0-9]{22}")


class StoredPassword(Protocol):
    """One stored password."""

    @property
    def weight(self) -> float:
        """Roughly the seconds of a check; 0 for an immediate one."""

    def matches(self, password: bytes) -> bool:
        """True if this is the password. Takes the same time for every wrong one."""


class Plain:
    """A password kept in plain text: the only form against which CRAM-MD5 can be checked."""

    weight = 0.0

    def __init__(self, password: bytes) -> None:
        self._password = password
        self._digest = hashlib.sha256(password).digest()

    def matches(self, password: bytes) -> bool:
        # Digests, because compare_digest is quicker with texts of different lengths.
        return hmac.compare_digest(hashlib.sha256(password).digest(), self._digest)

    def answers(self, challenge: bytes, response: str) -> bool:
        """True if `response` is the hex digest that answers a CRAM-MD5 challenge (RFC 2195)."""
        expected = hmac.new(self._password, challenge, "md5").hexdigest()
        return hmac.compare_digest(expected.encode(), response.encode("utf-8", "surrogatepass"))


class Hashed:
    """A hash, or with a salt an HMAC, of a password. `name` is hashlib's."""

    weight = 0.0

    def __init__(self, name: str, digest: bytes, salt: bytes | None) -> None:
        self._name = name
        self._digest = digest
        self._salt = salt

    def matches(self, password: bytes) -> bool:
        return hmac.compare_digest(digest(self._name, password, self._salt), self._digest)


class Bcrypt:
    """A bcrypt string."""

    def __init__(self, text: str, cost: int) -> None:
        self._text = text.encode()
        self.weight = 5e-5 * 2**cost

    def matches(self, password: bytes) -> bool:
        import bcrypt

        return bcrypt.checkpw(password[:BCRYPT_LIMIT], self._text)


class Argon2:
    """An argon2 string (RFC 9106), of any of the three variants."""

    def __init__(self, text: str) -> None:
        import argon2

        parameters = argon2.extract_parameters(text)
        self._text = text.encode()
        self._type: Any = parameters.type
        self.weight = 4e-7 * parameters.memory_cost * parameters.time_cost

    def matches(self, password: bytes) -> bool:
        from argon2.exceptions import VerifyMismatchError
        from argon2.low_level import verify_secret

        try:
            return verify_secret(self._text, password, self._type)
        except VerifyMismatchError:
            return False


class Apr1:
    """Apache's variant of MD5-crypt."""

    weight = 2e-3

    def __init__(self, text: str, salt: str) -> None:
        self._text = text.encode()
        self._salt = salt.encode()

    def matches(self, password: bytes) -> bool:
        return hmac.compare_digest(apr1(password, self._salt), self._text)


def digest(name: str, password: bytes, salt: bytes | None) -> bytes:
    """The hash of a password; with a salt, its HMAC with the salt as the key, like Node's
    `crypto.createHmac(algo, salt)`."""
    if salt is not None:
        return hmac.new(salt, password, name).digest()
    found: Any = hashlib.new(name, password, usedforsecurity=False)
    if name in EXTENDABLE:
        made: bytes = found.digest(EXTENDABLE[name])
        return made
    plain: bytes = found.digest()
    return plain


_HEX: Final = re.compile(r"[0-9A-Fa-f]{32,}")


def is_bare(text: str) -> bool:
    """True if a text can only be a password itself: neither a stored form nor a damaged one."""
    return ":" not in text and not text.startswith(("$", "{")) and not _HEX.fullmatch(text)


def parse(text: str, salt: bytes | None = None) -> StoredPassword:
    """A stored password of the configuration. Raises ValueError that names the mistake, and quotes only
    the name of an existing algorithm."""
    if (known := _crypt_string(text)) is not None:
        return known
    form, colon, rest = text.partition(":")
    if not colon:
        what = f"is {len(text)} hexadecimal digits and " if _HEX.fullmatch(text) else ""
        raise ValueError(
            f"{what}has no algorithm before it: write ALGO:hex, or plain: before the password itself"
        )
    if form.lower() == "plain":
        if not rest:
            raise ValueError("is empty: write plain:PASSWORD")
        return Plain(rest.encode())
    try:
        name = hash_name(form)
    except ValueError:
        if text[:1] in "\"'" and text[:1] == text[-1:]:
            raise ValueError("is in quotes, which do not belong to it: remove them") from None
        if _crypt_string(rest) is not None:
            raise ValueError("such a hash stands alone: remove what is before its first $") from None
        raise ValueError("does not begin with plain: or a known hash algorithm such as sha256:") from None
    return _hashed(name, form, rest.strip(), salt)


def parse_htpasswd(text: str) -> StoredPassword:
    """A stored password of an htpasswd file. Raises ValueError, quoting no part of it."""
    if (known := _crypt_string(text)) is not None:
        return known
    if found := _APR1.fullmatch(text):
        return Apr1(text, found["salt"])
    if text.startswith("{SHA}"):
        try:
            sha1 = base64.b64decode(text.removeprefix("{SHA}"), validate=True)
        except binascii.Error:
            sha1 = b""
        if len(sha1) == hashlib.sha1(usedforsecurity=False).digest_size:
            return Hashed("sha1", sha1, None)
        raise ValueError("the SHA-1 digest is damaged")
    raise ValueError("its form is not known here: bcrypt (htpasswd -B), argon2, $apr1$ and {SHA} are")


def _crypt_string(text: str) -> StoredPassword | None:
    if text.startswith("$argon2"):
        found = _ARGON2.fullmatch(text)
        if found is None or any(len(part) % 4 == 1 for part in found.groups()):  # base64 never holds it
            raise ValueError("the argon2 string is damaged")
        return _bearable(Argon2(text))
    if text.startswith(("$2a$", "$2b$", "$2y$")):
        found = _BCRYPT.fullmatch(text)
        if found is None or not 4 <= int(found["cost"]) <= 31:
            raise ValueError("the bcrypt string is damaged")
        return _bearable(Bcrypt(text, int(found["cost"])))
    return None


def _bearable(stored: StoredPassword) -> StoredPassword:
    if stored.weight > MAX_SECONDS:
        raise ValueError(f"takes some {stored.weight:.0f} seconds to check: choose a lower cost")
    return stored


def _hashed(name: str, form: str, rest: str, salt: bytes | None) -> Hashed:
    if salt is not None and name in EXTENDABLE:
        raise ValueError(f"{form} cannot be used with a salt: HMAC needs a hash of fixed length")
    try:
        given = bytes.fromhex(rest) if rest.isalnum() else b""
    except ValueError:
        given = b""
    size = len(digest(name, b"", salt))
    if len(given) != size:
        raise ValueError(f"what follows {form}: is not the {2 * size} hexadecimal digits of such a hash")
    return Hashed(name, given, salt)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def apr1(password: bytes, salt: bytes) -> bytes:
    """The whole string, `$apr1$SALT$HASH`. Takes a millisecond or two; `salt` is at most 8 bytes.

    It is MD5-crypt under another prefix, 1,000 rounds of MD5, by the steps of Apache Portable Runtime's
    `apr_md5_encode`. Files of old htpasswd programs hold it; MD5 is no longer safe for new passwords.
    """
    state = _md5(_apr1_text(password, salt))
    for number in range(_ROUNDS):
        parts = [password if number & 1 else state]
        if number % 3:
            parts.append(salt)
        if number % 7:
            parts.append(password)
        parts.append(state if number & 1 else password)
        state = _md5(b"".join(parts))
    return APR1_PREFIX.encode() + salt + b"$" + _apr1_encoded(state)


def _apr1_text(password: bytes, salt: bytes) -> bytes:
    inner = _md5(password + salt + password)
    text = password + APR1_PREFIX.encode() + salt
    text += (inner * (len(password) // len(inner) + 1))[: len(password)]
    left = len(password)
    while left:
        text += b"\0" if left & 1 else password[:1]
        left >>= 1
    return text


def _apr1_encoded(state: bytes) -> bytes:
    out = bytearray()
    for a, b, c in _ORDER:
        out += _apr1_digits(state[a] << 16 | state[b] << 8 | state[c], 4)
    return bytes(out + _apr1_digits(state[11], 2))


def _apr1_digits(value: int, digits: int) -> bytes:
    """Six bits to a digit, the lowest first."""
    return bytes(_ALPHABET[value >> 6 * place & 63] for place in range(digits))
