"""The two hashes of a signature: over header fields and over the body (RFC 6376 section 3.7).

The body is read once for all signatures: there is one hash object for each canonical form and algorithm,
and the hashes of l= are taken on the way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import re2

from functions.message.canon import CRLF, Algorithm, relaxed_value, squeezed
from functions.message.canon import BodyCanon as PlainCanon
from listener.mailauth.dkim.fields import HeaderBlock, HeaderField
from listener.mailauth.dkim.signature import Signature

_SIGNATURE_TAG: Final = re.compile(rb"(?:\A|;)[ \t\r\n]*b[ \t\r\n]*=")
_LATIN_1: Final = re2.Options()
_LATIN_1.encoding = re2.Options.Encoding.LATIN1
_SURPLUS: Final = re2.compile(rb" [ \r]", _LATIN_1)  # one pass instead of two searches of bytes


def without_signature(value: bytes) -> bytes:
    """A signature field's value without the value of its b= tag and the white space around it (sections
    3.5 and 3.7). Only a tag named exactly b counts."""
    tag = _SIGNATURE_TAG.search(value)
    if tag is None:
        return value
    end = value.find(b";", tag.end())
    return value[: tag.end()] + (value[end:] if end >= 0 else b"")


class BodyCanon(PlainCanon):
    """A body's canonical form, emitted piece by piece as the body arrives; re2 searches
    for surplus white space."""

    __slots__ = ()

    def _has_surplus(self, piece: bytes) -> bool:
        return _SURPLUS.search(piece) is not None


class BodyHash(NamedTuple):
    """The body hash that a signature needs; `length` is l=, None for the whole body."""

    canon: Algorithm
    hash_name: str
    length: int | None


def body_hash(signature: Signature) -> BodyHash:
    """The body hash that a signature covers."""
    return BodyHash(signature.body_canon, signature.hash_name, signature.length)


class _Prefixes:
    """One hash object, with its digest at each of the wanted lengths."""

    __slots__ = ("_at", "_hash", "_lengths", "_seen", "_whole", "digests")

    def __init__(self, hash_name: str, lengths: Iterable[int | None]) -> None:
        self._hash = hashlib.new(hash_name, usedforsecurity=False)
        wanted = set(lengths)
        self._whole = None in wanted
        self._lengths = sorted([length for length in wanted if length is not None])
        self._at = 0
        self._seen = 0
        self.digests: dict[int | None, bytes] = {}

    def update(self, data: bytes) -> None:
        if not self._lengths:
            self._hash.update(data)
            return
        while self._at < len(self._lengths) and self._lengths[self._at] - self._seen < len(data):
            length = self._lengths[self._at]
            head = data[: length - self._seen]
            self._hash.update(head)
            self.digests[length] = self._hash.digest()
            data = data[len(head) :]
            self._seen = length
            self._at += 1
        if self._whole or self._at < len(self._lengths):
            self._hash.update(data)
            self._seen += len(data)

    def finish(self, size: int) -> None:
        """`size` is that of the whole canonical body."""
        if self._whole:
            self.digests[None] = self._hash.digest()
        if self._at < len(self._lengths) and self._lengths[self._at] == size:
            self.digests[size] = self._hash.digest()


class _Fan:
    """Several hash objects over one canonical form."""

    __slots__ = ("_sinks",)

    def __init__(self, sinks: list[_Prefixes]) -> None:
        self._sinks = sinks

    def update(self, data: bytes) -> None:
        for sink in self._sinks:
            sink.update(data)


class BodyHashes:
    """The wanted hashes of one body: feed it, finish it, ask."""

    def __init__(self, wanted: Iterable[BodyHash]) -> None:
        lengths: dict[Algorithm, dict[str, set[int | None]]] = {}
        for canon, hash_name, length in wanted:
            lengths.setdefault(canon, {}).setdefault(hash_name, set()).add(length)
        self._hashes = {
            canon: {name: _Prefixes(name, of) for name, of in by_name.items()}
            for canon, by_name in lengths.items()
        }
        self._canons = {
            canon: BodyCanon(
                canon, next(iter(hashes.values())) if len(hashes) == 1 else _Fan([*hashes.values()])
            )
            for canon, hashes in self._hashes.items()
        }

    def __bool__(self) -> bool:
        """True if any signature needs the body."""
        return bool(self._canons)

    def feed(self, piece: bytes) -> None:
        for canon in self._canons.values():
            canon.feed(piece)

    def finish(self) -> None:
        for name, canon in self._canons.items():
            canon.finish()
            for prefixes in self._hashes[name].values():
                prefixes.finish(canon.size)

    def digest(self, wanted: BodyHash) -> bytes | None:
        """The digest; None if l= exceeds the body, or if the hash was not wanted."""
        hashes = self._hashes.get(wanted.canon, {}).get(wanted.hash_name)
        return None if hashes is None else hashes.digests.get(wanted.length)

    def size(self, canon: Algorithm) -> int:
        """Size of the canonical body in bytes."""
        return self._canons[canon].size if canon in self._canons else 0


def header_digest(block: HeaderBlock, signature: Signature) -> bytes:
    """The digest that b= signs: the fields of h=, each name's from the bottom up, then the
    signature's own field with an empty b= (sections 3.7 and 5.4.2)."""
    own = signature.field
    unused: dict[bytes, list[HeaderField]] = {}
    chosen: list[HeaderField] = []
    for name in signature.headers:
        left = unused.get(name)
        if left is None:
            left = unused[name] = block.named(name).copy()
            if name == own.name:  # a signature never signs itself among the fields of h= (section 3.5)
                left.remove(own)
        if left:
            chosen.append(left.pop())
    if signature.header_canon == "relaxed":
        signed = _relaxed([*chosen, HeaderField(own.name, b"", without_signature(own.value))])
    else:
        signed = CRLF.join([*(field.raw for field in chosen), sealed_form(own, relaxed=False)])
    return hashlib.new(signature.hash_name, signed, usedforsecurity=False).digest()


def _relaxed(fields: Iterable[HeaderField]) -> bytes:
    """The relaxed form of fields (section 3.4.2), all in one pass, joined by CRLF. Blanks follow each CRLF in
    a field of a HeaderBlock, and none follows the CRLF between two fields."""
    pieces: list[bytes] = []
    for field in fields:
        value = field.value.lstrip(b" \t")
        pieces.append(field.relaxed if value.startswith(CRLF) else field.name + b":" + value)
    text = CRLF.join(pieces).replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    return squeezed(text).replace(b" \r\n", CRLF).rstrip(b" ")


def sealed_form(field: HeaderField, *, relaxed: bool) -> bytes:
    """A signature's own field in the form to hash: without the b= value and the final CRLF."""
    value = without_signature(field.value)
    if relaxed:
        return field.name + b":" + relaxed_value(value)
    return field.raw[: len(field.raw) - len(field.value)] + value
