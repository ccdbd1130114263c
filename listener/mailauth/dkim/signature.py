"""Signature fields: DKIM-Signature, and ARC's two fields with the same syntax.

This module makes every check of RFC 6376 section 6.1.1 that precedes the fetch of the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from functions.message.canon import Algorithm
from listener.mailauth.dkim import tags
from listener.mailauth.dkim.fields import HeaderField
from listener.mailauth.dns.domains import normal_octets, within
from listener.mailauth.dns.resolver import Question
from listener.mailauth.results import DkimVerdict

MAX_LENGTH: Final = 16_384
"""Most bytes of one signature field; real ones stay below 4,096."""

MAX_CLOCK_SKEW: Final = 300
"""Seconds that clocks may differ, for t= and x= (RFC 6376 section 3.5)."""

_HASHES: Final = {b"rsa-sha256": "sha256", b"rsa-sha1": "sha1", b"ed25519-sha256": "sha256"}
_CANONS: Final[Mapping[bytes, tuple[Algorithm, Algorithm]]] = {
    b"simple": ("simple", "simple"),
    b"relaxed": ("relaxed", "simple"),
    b"simple/simple": ("simple", "simple"),
    b"simple/relaxed": ("simple", "relaxed"),
    b"relaxed/simple": ("relaxed", "simple"),
    b"relaxed/relaxed": ("relaxed", "relaxed"),
}
"""Of header and body by c=; without its second word the body is "simple"."""

_SHOWN: Final = 8  # RFC 6008 section 4: enough of b= to tell signatures apart


class SignatureError(Exception):
    """The reason why a signature does not count. The text is short and the relay's own."""

    def __init__(self, verdict: DkimVerdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict: DkimVerdict = verdict
        self.reason = reason


@dataclass(slots=True, eq=False)  # not frozen, because that doubles the cost of construction
class Signature:
    """A parsed signature field. `headers` are the lower-case names of h=, empty for an ARC-Seal.

    `body_hash` is None for a seal; `length` is l=, `expires` x=.
    """

    field: HeaderField
    tags: dict[bytes, bytes]
    algorithm: str
    key_kind: str
    hash_name: str
    header_canon: Algorithm
    body_canon: Algorithm
    domain: str
    selector: str
    identity: str
    identity_domain: str
    headers: tuple[bytes, ...]
    value: bytes
    body_hash: bytes | None
    length: int | None
    signed_at: int | None
    expires: int | None
    question: Question
    """The key's name in DNS (RFC 6376 section 3.6.2.1)."""

    @property
    def shown(self) -> str:
        """The first bytes of b=, for header.b."""
        return tags.unfolded(self.tags[b"b"])[:_SHOWN].decode("ascii", "replace")


def parse_dkim(field: HeaderField) -> Signature:
    """Read a DKIM-Signature. Raises SignatureError."""
    found = _tags(field)
    if found.get(b"v") != b"1":
        raise SignatureError("neutral", "not version 1")
    signature = _read(field, found, (b"a", b"b", b"bh", b"d", b"h", b"s"))
    if b"from" not in signature.headers:
        raise SignatureError("neutral", "From is not signed")
    if b"q" in found and b"dns/txt" not in [word.lower() for word in tags.words(found[b"q"])]:
        raise SignatureError("neutral", "no known way to fetch the key")
    if not within(signature.identity_domain, signature.domain):
        raise SignatureError("neutral", "i= is not within d=")
    return signature


def parse_arc_message_signature(field: HeaderField) -> Signature:
    """Read an ARC-Message-Signature (RFC 8617 section 4.1.2). Raises SignatureError."""
    signature = _read(field, _tags(field), (b"a", b"b", b"bh", b"d", b"h", b"i", b"s"), arc=True)
    if b"arc-seal" in signature.headers:
        raise SignatureError("neutral", "signs an ARC-Seal")
    return signature


def parse_arc_seal(field: HeaderField) -> Signature:
    """Read an ARC-Seal (RFC 8617 section 4.1.3). Raises SignatureError."""
    found = _tags(field)
    if b"h" in found or b"bh" in found:
        raise SignatureError("neutral", "h= or bh= in a seal")
    return _read(field, found, (b"a", b"b", b"cv", b"d", b"i", b"s"), arc=True)


def check_time(signature: Signature, now: float) -> None:
    """Raises SignatureError for a signature that has expired or comes from the future."""
    if signature.expires is not None and signature.expires < now - MAX_CLOCK_SKEW:
        raise SignatureError("fail", "signature expired")
    if signature.signed_at is not None and signature.signed_at > now + MAX_CLOCK_SKEW:
        raise SignatureError("policy", "signed in the future")


def _tags(field: HeaderField) -> dict[bytes, bytes]:
    if len(field.value) > MAX_LENGTH:
        raise SignatureError("policy", "signature field too long")
    try:
        return tags.parse(field.value)
    except tags.TagError as error:
        raise SignatureError("neutral", str(error)) from error


def _read(
    field: HeaderField, found: dict[bytes, bytes], required: tuple[bytes, ...], *, arc: bool = False
) -> Signature:
    for tag in required:
        if tag not in found:
            raise SignatureError("neutral", f"no {tag.decode()}=")
    algorithm = found[b"a"]
    if algorithm not in _HASHES:
        raise SignatureError("neutral", "unknown algorithm")
    domain = normal_octets(found[b"d"])
    selector = normal_octets(found[b"s"])
    if domain is None or selector is None:
        raise SignatureError("neutral", "d= or s= is not a domain name")
    try:
        value = tags.octets(found[b"b"], "b")
        body_hash = tags.octets(found[b"bh"], "bh") if b"bh" in found else None
        length = tags.number(found[b"l"], "l") if b"l" in found else None
        signed_at = tags.number(found[b"t"], "t") if b"t" in found else None
        expires = tags.number(found[b"x"], "x") if b"x" in found else None
    except tags.TagError as error:
        raise SignatureError("neutral", str(error)) from error
    if signed_at is not None and expires is not None and expires <= signed_at:
        raise SignatureError("neutral", "x= is not after t=")
    # Without c=, ARC uses "relaxed" (RFC 8617 section 4.1.2), DKIM "simple".
    default = b"relaxed/relaxed" if arc else b"simple/simple"
    canons = _CANONS.get(tags.unfolded(found[b"c"]) if b"c" in found else default)
    if canons is None:
        raise SignatureError("neutral", "unknown canonicalization")
    identity, identity_domain = ("", domain) if arc else _identity(found, domain)
    key_kind, _, _ = algorithm.partition(b"-")
    return Signature(
        field=field,
        tags=found,
        algorithm=algorithm.decode(),
        key_kind=key_kind.decode(),
        hash_name=_HASHES[algorithm],
        header_canon=canons[0],
        body_canon=canons[1],
        domain=domain,
        selector=selector,
        identity=identity,
        identity_domain=identity_domain,
        # An empty item selects no field, so it is harmless; some signers write them.
        headers=tuple([word for word in tags.words(found[b"h"].lower()) if word]) if b"h" in found else (),
        value=value,
        body_hash=body_hash,
        length=length,
        signed_at=signed_at,
        expires=expires,
        question=Question(f"{selector}._domainkey.{domain}", "TXT"),
    )


def _identity(found: dict[bytes, bytes], domain: str) -> tuple[str, str]:
    """i= and its domain. Default: "@" and d= (RFC 6376 section 3.5)."""
    if b"i" not in found:
        return f"@{domain}", domain
    local, at, host = tags.unfolded(found[b"i"]).rpartition(b"@")
    identity_domain = normal_octets(host)
    if not at or identity_domain is None:
        raise SignatureError("neutral", "i= is not an address")
    return f"{local.decode('utf-8', 'replace')}@{identity_domain}", identity_domain
