"""DKIM signatures (RFC 6376), rsa-sha256 and ed25519-sha256 (RFC 8463), on a mail's bytes.

The signer is the relay's own, because dkimpy needs the whole mail in memory, signs in pure Python
and takes quadratic time on runs of blanks.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from functions.message.canon import CRLF, relaxed_field
from functions.message.headers import field_end

MIN_BITS: Final = 1_024
"""RFC 8301 section 3.2: no verifier accepts shorter RSA keys."""

SEALED: Final = (b"from", b"to", b"cc", b"subject", b"reply-to")
"""Signed once more than they occur, even if they do not occur, so a later relay cannot add another one
(RFC 6376 section 8.15)."""

SEALED_IF_PRESENT: Final = (
    b"sender",
    b"date",
    b"message-id",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
)
"""Signed once more than they occur, if they occur. Otherwise a gateway on the way may rightly add them."""

SIGNED: Final = (
    b"in-reply-to",
    b"references",
    b"content-id",
    b"content-description",
    b"content-disposition",
    b"resent-from",
    b"resent-sender",
    b"resent-to",
    b"resent-cc",
    b"resent-date",
    b"resent-message-id",
    b"list-id",
    b"list-help",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
    b"list-subscribe",
    b"list-post",
    b"list-owner",
    b"list-archive",
    b"autocrypt",
    b"openpgp",
)
"""Signed as often as they occur. Trace fields are never signed: relays add to them."""

MOST: Final = 50
"""Most fields of one name that are signed; a mail with more was not written by a mail client."""

_WIDTH: Final = 76
_ALL: Final = (*SEALED, *SEALED_IF_PRESENT, *SIGNED)
_NAMES: Final = b"(" + b"|".join(map(re.escape, _ALL)) + rb")[ \t]*:"
_FIRST: Final = re.compile(_NAMES, re.IGNORECASE)
_OTHER: Final = re.compile(rb"\r\n" + _NAMES, re.IGNORECASE)

Key = RSAPrivateKey | Ed25519PrivateKey


def load_key(pem: str) -> Key:
    """A private key from PEM, also if its line breaks were written as `\\n` (environment variables).
    Raises ValueError that names the mistake without showing the key."""
    text = pem.replace("\\n", "\n") if "\n" not in pem.strip() else pem
    try:
        key = serialization.load_pem_private_key(text.strip().encode() + b"\n", None)
    except TypeError as error:
        raise ValueError("the private key is encrypted: give it without a passphrase") from error
    except Exception as error:  # cryptography has several kinds
        raise ValueError("is not a private key in PEM form") from error
    if isinstance(key, RSAPrivateKey):
        if key.key_size < MIN_BITS:
            raise ValueError(f"an RSA key of {key.key_size} bits is refused everywhere: use 2048")
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise ValueError("is neither an RSA nor an Ed25519 key")


class Signer:
    """Signs for one domain with one key. Safe for use by several threads."""

    def __init__(self, domain: str, selector: str, key: Key) -> None:
        self.domain = domain
        self._selector = selector
        self._key = key
        self._algorithm = "rsa-sha256" if isinstance(key, RSAPrivateKey) else "ed25519-sha256"

    def sign(self, head: bytes, body_hash: bytes, now: int) -> bytes:
        """The DKIM-Signature field, CRLF at its end, for a header block and the SHA-256 of the relaxed
        body; `now` is Unix time in seconds."""
        names, canonical = select(head)
        value = self._unsigned(names, body_hash, now)
        digest = hashlib.sha256()
        for field in canonical:
            digest.update(field + CRLF)
        digest.update(relaxed_field(b"DKIM-Signature", value))
        signature = base64.b64encode(self._signature(digest.digest()))
        return b"DKIM-Signature:" + value + _folded(signature, len(b" b=")) + CRLF

    def _unsigned(self, names: list[bytes], body_hash: bytes, now: int) -> bytes:
        lines = [
            f" v=1; a={self._algorithm}; c=relaxed/relaxed; d={self.domain};".encode(),
            f" s={self._selector}; t={now};".encode(),
            b" h=" + _listed(names) + b";",
            b" bh=" + base64.b64encode(body_hash) + b";",
            b" b=",
        ]
        return b"\r\n".join(lines)

    def _signature(self, digest: bytes) -> bytes:
        if isinstance(self._key, RSAPrivateKey):
            from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

            return self._key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
        return self._key.sign(digest)  # RFC 8463 section 3: Ed25519 over the SHA-256


def select(head: bytes) -> tuple[list[bytes], list[bytes]]:
    """The signed part of a header block: names for `h=`, and the canonical fields in that order. Of
    several fields of a name, the last stands first (RFC 6376 section 5.4.2)."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in _fields(head):
        found.setdefault(name.lower(), []).append(relaxed_field(name, value))
    names: list[bytes] = []
    canonical: list[bytes] = []
    for name in _ALL:
        fields = found.get(name, [])[-MOST:]
        canonical += reversed(fields)
        names += [name] * len(fields)
        if (name in SEALED or (fields and name in SEALED_IF_PRESENT)) and len(fields) < MOST:
            names.append(name)
    return names, canonical


def _fields(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    match = _FIRST.match(head) or _OTHER.search(head)
    while match is not None:
        end = field_end(head, match.end())
        yield match[1], head[match.end() : end]
        match = _OTHER.search(head, end - 2)


def _listed(names: list[bytes]) -> bytes:
    """The names with colons, folded between them."""
    lines: list[bytes] = []
    line = b""
    for at, name in enumerate(names):
        word = name if at == len(names) - 1 else name + b":"
        if line and len(line) + len(word) > _WIDTH - 4:
            lines.append(line)
            line = b""
        line += word
    return b"\r\n  ".join([*lines, line])


def _folded(text: bytes, used: int) -> bytes:
    first = _WIDTH - used
    rest = range(first, len(text), _WIDTH)
    return b"\r\n ".join([text[:first], *(text[at : at + _WIDTH] for at in rest)])
