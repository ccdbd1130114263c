"""Public keys from DNS (RFC 6376 section 3.6.1, RFC 8463) and verification with them.

OpenSSL does the arithmetic, through `cryptography`. Sizes and exponents are bounded, because strangers
choose both: a verification costs microseconds, whatever the record says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from listener.mailauth.dkim import tags

MAX_RSA_BITS: Final = 8_192
"""RFC 8301 section 3.2: verifiers handle 1,024 to 4,096 bits and may handle more."""

MAX_EXPONENT: Final = 2**32
"""Public exponents in use are 3, 17 and 65,537; an exponent as long as the modulus costs
milliseconds."""

MAX_RECORD: Final = 8_192
"""Most bytes of a key record; an RSA key of 8,192 bits takes 1,400."""

ED25519_BITS: Final = 256

_SHA1: Final = Prehashed(SHA1())  # noqa: S303 - verified only if the configuration asks for it
_SHA256: Final = Prehashed(SHA256())
_PADDING: Final = padding.PKCS1v15()


class KeyRecordError(ValueError):
    """The record holds no key for this use. The text is short and the relay's own."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key and its record's conditions. `hashes` is None if any hash is allowed."""

    key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey
    kind: Literal["rsa", "ed25519"]
    bits: int
    hashes: frozenset[bytes] | None
    testing: bool
    """t=y"""
    strict_identity: bool
    """t=s: the domain of i= must be that of d=, not a subdomain."""

    def verifies(self, signature: bytes, digest: bytes, hash_name: str) -> bool:
        """True if the signature over the digest verifies with this key (RFC 8463 section 3: Ed25519
        signs the SHA-256 digest)."""
        try:
            if self.kind == "rsa":
                # isinstance would ask an abstract class, which takes longer.
                hashed = _SHA1 if hash_name == "sha1" else _SHA256
                self.key.verify(signature, digest, _PADDING, hashed)  # type: ignore[call-arg]  # RSA, says `kind`
            else:
                self.key.verify(signature, digest)  # type: ignore[call-arg]  # Ed25519
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            return False
        return True


@lru_cache(maxsize=1_024)
def parse(record: bytes) -> PublicKey:
    """Read one key record. Raises KeyRecordError.

    Results are cached, because decoding a key costs more than using it, and busy senders' keys recur.
    """
    if len(record) > MAX_RECORD:
        raise KeyRecordError("key record too long")
    try:
        found = tags.parse(record)
    except tags.TagError as error:
        raise KeyRecordError("malformed key record") from error
    if b"v" in found and (next(iter(found)) != b"v" or found[b"v"] != b"DKIM1"):
        raise KeyRecordError("key record of another version")
    services = tags.words(found.get(b"s", b"*"))
    if b"*" not in services and b"email" not in services:
        raise KeyRecordError("key not for email")
    if b"p" not in found:
        raise KeyRecordError("key record without key")
    if not found[b"p"]:
        raise KeyRecordError("key revoked")
    try:
        data = tags.octets(found[b"p"], "p")
    except tags.TagError as error:
        raise KeyRecordError("key is not base64") from error
    key, bits = _load(found.get(b"k", b"rsa"), data)
    flags = tags.words(found.get(b"t", b""))
    return PublicKey(
        key=key,
        kind="rsa" if isinstance(key, rsa.RSAPublicKey) else "ed25519",
        bits=bits,
        hashes=frozenset(tags.words(found[b"h"])) if b"h" in found else None,
        testing=b"y" in flags,
        strict_identity=b"s" in flags,
    )


def _load(kind: bytes, data: bytes) -> tuple[rsa.RSAPublicKey | ed25519.Ed25519PublicKey, int]:
    try:
        if kind == b"ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(data), ED25519_BITS
        if kind != b"rsa":
            raise KeyRecordError("key of an unknown type")
        # Both forms are in use: SubjectPublicKeyInfo, and the RSAPublicKey that section 3.6.1 names.
        key = load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if isinstance(error, KeyRecordError):
            raise
        raise KeyRecordError("key cannot be read") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise KeyRecordError("key of another type than the record says")
    if key.key_size > MAX_RSA_BITS or key.public_numbers().e > MAX_EXPONENT:
        raise KeyRecordError("key too big")
    return key, key.key_size
