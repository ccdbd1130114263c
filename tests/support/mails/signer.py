"""Signs mails as a test needs them, right or wrong, independently of the code under test: canonical
forms are dkimpy's, tags are as given."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dkim.canonicalization import CanonicalizationPolicy

Key = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Fields = list[tuple[bytes, bytes]]

SIGNED: Final = ("from", "to", "subject", "date")


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """The same key for all tests of a process."""
    return rsa.generate_private_key(exponent, bits)


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def record(key: Key, **tags: str) -> str:
    """A key record; `tags` come after v= and k=, and may replace p=."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        kind, data = "rsa", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        kind, data = "ed25519", public.public_bytes_raw()
    found = {"v": "DKIM1", "k": kind, "p": base64.b64encode(data).decode()} | tags
    return "; ".join(f"{name}={value}" for name, value in found.items())


def sign(
    mail: bytes,
    key: Key | None = None,
    *,
    headers: Sequence[str] = SIGNED,
    name: bytes = b"DKIM-Signature",
    leave_out: Sequence[str] = (),
    hash_name: str = "sha256",
    **tags: Any,
) -> bytes:
    """The mail with one more signature on top. `tags` add to or replace the usual ones; `length` is
    l= as the body is hashed."""
    key = key or rsa_key()
    fields, body = split(mail)
    kind = "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ed25519"
    usual: dict[str, Any] = {
        "v": "1",
        "a": f"{kind}-{hash_name}",
        "c": "relaxed/relaxed",
        "d": "example.com",
        "s": "sel",
        "h": ":".join(headers),
    }
    wanted = {tag: str(value) for tag, value in (usual | tags).items() if tag not in leave_out}
    policy = CanonicalizationPolicy.from_c_value(wanted.get("c", "simple/simple").encode())
    canonical = policy.canonicalize_body(body)
    if "l" in wanted:
        canonical = canonical[: int(wanted["l"])]
    if "bh" not in leave_out:
        wanted.setdefault("bh", base64.b64encode(hashlib.new(hash_name, canonical).digest()).decode())
    value = b" " + "; ".join(f"{tag}={text}" for tag, text in wanted.items()).encode() + b"; b="
    over = selected(policy, fields, headers) + own(policy, name, value)
    signature = base64.b64encode(raw(key, over, hash_name))
    folded = b"\r\n\t".join(signature[at : at + 70] for at in range(0, len(signature), 70))
    return name + b":" + value + folded + b"\r\n" + mail


def raw(key: Key, over: bytes, hash_name: str = "sha256") -> bytes:
    """The signature's bytes over these."""
    digest = hashlib.new(hash_name, over).digest()
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = SHA1() if hash_name == "sha1" else SHA256()
        return key.sign(digest, padding.PKCS1v15(), Prehashed(algorithm))
    return key.sign(digest)


def selected(policy: CanonicalizationPolicy, fields: Fields, headers: Sequence[str]) -> bytes:
    """The canonical fields of h=, from the bottom up."""
    canonical = policy.canonicalize_headers(fields)
    left = list(canonical)
    found = b""
    for name in headers:
        for at in range(len(left) - 1, -1, -1):
            if left[at][0].lower() == name.lower().encode():
                field, value = left.pop(at)
                found += field + b":" + value
                break
    return found


def own(policy: CanonicalizationPolicy, name: bytes, value: bytes) -> bytes:
    """The signature's own field, without CRLF."""
    ((name, value),) = policy.canonicalize_headers([(name, value + b"\r\n")])
    return name + b":" + value.removesuffix(b"\r\n")


def split(mail: bytes) -> tuple[Fields, bytes]:
    """(name, value with CRLF) of each field, and the body."""
    head, _, body = mail.partition(b"\r\n\r\n")
    fields = []
    for field in re.split(rb"\r\n(?![ \t])", head):
        name, _, value = field.partition(b":")
        fields.append((name, value + b"\r\n"))
    return fields, body


def arc_set(
    mail: bytes,
    instance: int,
    key: Key | None = None,
    *,
    cv: str | None = None,
    seal: Mapping[str, str] | None = None,
    message: Mapping[str, str] | None = None,
) -> bytes:
    """The mail with one more ARC set on top; `seal` and `message` replace tags of the two signatures."""
    key = key or rsa_key()
    results = b"ARC-Authentication-Results: i=%d; relay%d.example; arc=none\r\n" % (instance, instance)
    mail = results + mail
    tags = {"i": str(instance), "t": "1700000000"} | dict(message or {})
    mail = sign(mail, key, name=b"ARC-Message-Signature", leave_out=("v",), **tags)
    fields, _ = split(mail)
    policy = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed")
    order = {b"arc-authentication-results": 0, b"arc-message-signature": 1, b"arc-seal": 2}
    chain = [field for field in policy.canonicalize_headers(fields) if field[0] in order]
    chain.sort(key=lambda field: (_instance(field[1]), order[field[0]]))
    wanted = {
        "i": str(instance),
        "a": "rsa-sha256",
        "cv": cv or ("none" if instance == 1 else "pass"),
        "d": "example.com",
        "s": "sel",
        "t": "1700000000",
    } | dict(seal or {})
    value = b" " + "; ".join(f"{tag}={text}" for tag, text in wanted.items()).encode() + b"; b="
    over = b"".join(name + b":" + text for name, text in chain) + own(policy, b"ARC-Seal", value)
    return b"ARC-Seal:" + value + base64.b64encode(raw(key, over)) + b"\r\n" + mail


def _instance(value: bytes) -> int:
    match = re.search(rb"(?:^|;)\s*i\s*=\s*(\d+)", value)
    return int(match[1]) if match else 0
