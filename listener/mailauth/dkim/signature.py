"""Signature fields: DKIM-Signature, and ARC's two fields with the same syntax.

This module makes every check of RFC 6376 section 6.1.1 that precedes the fetch of the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple

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

_KEPT: Final = 2_048  # no terms of a longer field are kept

_SHOWN: Final = 8  # RFC 6008 section 4: enough of b= to tell signatures apart


class SignatureError(Exception):
    """The reason why a signature does not count. The text is short and the relay's own."""

    def __init__(self, verdict: DkimVerdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict: DkimVerdict = verdict
        self.reason = reason


class BodyHash(NamedTuple):
    """The body hash that a signature needs; `length` is l=, None for the whole body."""

    canon: Algorithm
    hash_name: str
    length: int | None


class Terms(NamedTuple):
    """The part of a signature that a signer's mails share. `signed` are the lower-case names of h=, each with
    its place among those of this name, from 1; empty for an ARC-Seal. `question` is the key's name in DNS
    (RFC 6376 section 3.6.2.1)."""

    algorithm: str
    key_kind: str
    hash_name: str
    canonicalization: str
    header_canon: Algorithm
    whole_body: BodyHash
    domain: str
    selector: str
    identity: str
    identity_domain: str
    signed: tuple[tuple[bytes, int], ...]
    signs_from: int
    """How often h= has From."""
    question: Question


class Signature:
    """A parsed signature field. `body_hash` is None for a seal; `length` is l=, `expires` x=."""

    __slots__ = ("body_hash", "covers", "expires", "field", "length", "signed_at", "tags", "terms", "value")

    def __init__(
        self,
        field: HeaderField,
        found: dict[bytes, bytes],
        terms: Terms,
        value: bytes,
        body_hash: bytes | None,
    ) -> None:
        self.field = field
        self.tags = found
        self.terms = terms
        self.value = value
        self.body_hash = body_hash
        self.covers = terms.whole_body
        """The body hash that it covers."""
        self.length: int | None = None
        self.signed_at: int | None = None
        self.expires: int | None = None

    @property
    def question(self) -> Question:
        """The question for its key."""
        return self.terms.question

    @property
    def shown(self) -> str:
        """The first bytes of b=, for header.b."""
        text = self.tags[b"b"]
        start = tags.unfolded(text[: 2 * _SHOWN])
        if len(start) < _SHOWN:
            start = tags.unfolded(text)
        return start[:_SHOWN].decode("ascii", "replace")


def parse_dkim(field: HeaderField) -> Signature:
    """Read a DKIM-Signature. Raises SignatureError."""
    return _read(field, "DKIM-Signature")


def parse_arc_message_signature(field: HeaderField) -> Signature:
    """Read an ARC-Message-Signature (RFC 8617 section 4.1.2). Raises SignatureError."""
    return _read(field, "ARC-Message-Signature")


def parse_arc_seal(field: HeaderField) -> Signature:
    """Read an ARC-Seal (RFC 8617 section 4.1.3). Raises SignatureError."""
    return _read(field, "ARC-Seal")


def check_time(signature: Signature, now: float) -> None:
    """Raises SignatureError for a signature that has expired or comes from the future."""
    if signature.expires is not None and signature.expires < now - MAX_CLOCK_SKEW:
        raise SignatureError("fail", "signature expired")
    if signature.signed_at is not None and signature.signed_at > now + MAX_CLOCK_SKEW:
        raise SignatureError("policy", "signed in the future")


_Kind = Literal["DKIM-Signature", "ARC-Message-Signature", "ARC-Seal"]

_REQUIRED: Final[Mapping[_Kind, tuple[bytes, ...]]] = {
    "DKIM-Signature": (b"a", b"b", b"bh", b"d", b"h", b"s"),
    "ARC-Message-Signature": (b"a", b"b", b"bh", b"d", b"h", b"i", b"s"),
    "ARC-Seal": (b"a", b"b", b"cv", b"d", b"i", b"s"),
}
_Words = tuple[bytes, bytes, bytes, bytes | None, bytes | None, bytes | None, bytes | None]
"""The values of a=, d=, s=, c=, h=, i= and q=."""


def _read(field: HeaderField, kind: _Kind) -> Signature:
    size = len(field.value)
    if size > MAX_LENGTH:
        raise SignatureError("policy", "signature field too long")
    try:
        found = tags.parse(field.value)
    except tags.TagError as error:
        raise SignatureError("neutral", str(error)) from error
    if kind == "DKIM-Signature":
        if found.get(b"v") != b"1":
            raise SignatureError("neutral", "not version 1")
    elif kind == "ARC-Seal" and (b"h" in found or b"bh" in found):
        raise SignatureError("neutral", "h= or bh= in a seal")
    for tag in _REQUIRED[kind]:
        if tag not in found:
            raise SignatureError("neutral", f"no {tag.decode()}=")
    get = found.get
    words = (found[b"a"], found[b"d"], found[b"s"], get(b"c"), get(b"h"), get(b"i"), get(b"q"))
    terms_of = _terms if size <= _KEPT else _terms.__wrapped__
    terms, late, fault = terms_of(kind, words)
    if fault and not late:
        raise SignatureError("neutral", fault)
    try:
        value = tags.octets(found[b"b"], "b")
        body_hash = tags.octets(found[b"bh"], "bh") if b"bh" in found else None
        signature = Signature(field, found, terms, value, body_hash)
        if b"l" in found:
            signature.length = tags.number(found[b"l"], "l")
            signature.covers = terms.whole_body._replace(length=signature.length)
        if b"t" in found:
            signature.signed_at = tags.number(found[b"t"], "t")
        if b"x" in found:
            signature.expires = tags.number(found[b"x"], "x")
            if signature.signed_at is not None and signature.expires <= signature.signed_at:
                raise SignatureError("neutral", "x= is not after t=")
    except tags.TagError as error:
        raise SignatureError("neutral", str(error)) from error
    if fault:
        raise SignatureError("neutral", fault)
    return signature


@lru_cache(maxsize=1_024)  # a signer's mails differ in b=, bh=, t= and x= alone
def _terms(kind: _Kind, words: _Words) -> tuple[Terms, bool, str]:
    """The terms, and the first fault in them, "" if there is none. The flag is true for a fault that counts
    only if the other tags have none."""
    algorithm, d, s, c, h, i, q = words
    if algorithm not in _HASHES:
        return _NO_TERMS, False, "unknown algorithm"
    domain, selector = normal_octets(d), normal_octets(s)
    if domain is None or selector is None:
        return _NO_TERMS, False, "d= or s= is not a domain name"
    # Without c=, ARC uses "relaxed" (RFC 8617 section 4.1.2), DKIM "simple".
    default = b"simple/simple" if kind == "DKIM-Signature" else b"relaxed/relaxed"
    canons = _CANONS.get(default if c is None else tags.unfolded(c))
    if canons is None:
        return _NO_TERMS, True, "unknown canonicalization"
    identity, identity_domain = "", domain
    if kind == "DKIM-Signature":
        try:
            identity, identity_domain = _identity(i, domain)
        except SignatureError as error:
            return _NO_TERMS, True, error.reason
    count: dict[bytes, int] = {}
    signed = []
    for name in () if h is None else tags.words(h.lower()):
        if name:  # an empty item selects no field, so it is harmless; some signers write them
            count[name] = count.get(name, 0) + 1
            signed.append((name, count[name]))
    terms = Terms(
        algorithm=algorithm.decode(),
        key_kind=algorithm.partition(b"-")[0].decode(),
        hash_name=_HASHES[algorithm],
        canonicalization=f"{canons[0]}/{canons[1]}",
        header_canon=canons[0],
        whole_body=BodyHash(canons[1], _HASHES[algorithm], None),
        domain=domain,
        selector=selector,
        identity=identity,
        identity_domain=identity_domain,
        signed=tuple(signed),
        signs_from=count.get(b"from", 0),
        question=Question(f"{selector}._domainkey.{domain}", "TXT"),
    )
    return terms, True, _fault(kind, terms, q)


def _fault(kind: _Kind, terms: Terms, q: bytes | None) -> str:
    """The fault of terms that can be read, "" if there is none."""
    if kind == "ARC-Message-Signature":
        return "signs an ARC-Seal" if (b"arc-seal", 1) in terms.signed else ""
    if kind == "ARC-Seal":
        return ""
    if not terms.signs_from:
        return "From is not signed"
    if q is not None and b"dns/txt" not in [word.lower() for word in tags.words(q)]:
        return "no known way to fetch the key"
    return "" if within(terms.identity_domain, terms.domain) else "i= is not within d="


_NO_TERMS: Final = Terms(
    "", "", "", "", "simple", BodyHash("simple", "", None), "", "", "", "", (), 0, Question("", "TXT")
)


def _identity(value: bytes | None, domain: str) -> tuple[str, str]:
    """i= and its domain. Default: "@" and d= (RFC 6376 section 3.5)."""
    if value is None:
        return f"@{domain}", domain
    local, at, host = tags.unfolded(value).rpartition(b"@")
    identity_domain = normal_octets(host)
    if not at or identity_domain is None:
        raise SignatureError("neutral", "i= is not an address")
    return f"{local.decode('utf-8', 'replace')}@{identity_domain}", identity_domain
