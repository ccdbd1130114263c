"""The two hashes of a signature: over header fields and over the body (RFC 6376 section 3.7).

The body is read once for all signatures: there is one hash object for each canonical form and algorithm,
and the hashes of l= are taken on the way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from functions.message.canon import CRLF, Algorithm, BodyCanon, is_canonical, relaxed_value, squeezed
from listener.mailauth.dkim.fields import HeaderBlock, HeaderField
from listener.mailauth.dkim.signature import BodyHash, Signature

_FIRST_TAG: Final = re.compile(rb"[ \t\r\n]*b[ \t\r\n]*=")
_OTHER_TAG: Final = re.compile(rb";[ \t\r\n]*b[ \t\r\n]*=")  # its first byte makes the search fast
_HASHES: Final = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}


def without_signature(value: bytes) -> bytes:
    """A signature field's value without the value of its b= tag and the white space around it (sections
    3.5 and 3.7). Only a tag named exactly b counts."""
    tag = _FIRST_TAG.match(value) or _OTHER_TAG.search(value)
    if tag is None:
        return value
    end = value.find(b";", tag.end())
    return value[: tag.end()] + (value[end:] if end >= 0 else b"")


class _Prefixes:
    """One hash object, with its digest at each of the wanted lengths."""

    __slots__ = ("_at", "_hash", "_lengths", "_seen", "_whole", "digests")

    def __init__(self, hash_name: str, lengths: Iterable[int | None]) -> None:
        self._hash = _HASHES[hash_name](usedforsecurity=False)
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
    """The wanted hashes of one body: feed it and finish it, or take it whole; then ask."""

    def __init__(self, wanted: Sequence[BodyHash]) -> None:
        self._wanted = wanted
        self._hashes: dict[Algorithm, dict[str, _Prefixes]] = {}
        self._canons: dict[Algorithm, BodyCanon] = {}
        self._digest: bytes | None = None
        """The hash of a body that came whole, if only this one is wanted."""

    def __bool__(self) -> bool:
        """True if any signature needs the body."""
        return bool(self._wanted)

    def take(self, body: bytes) -> None:
        """Take the whole body at once."""
        first = self._wanted[0]
        if (
            self._wanted.count(first) == len(self._wanted)
            and first.length is None
            and is_canonical(body, first.canon)
        ):
            self._digest = _HASHES[first.hash_name](body, usedforsecurity=False).digest()
            return
        self.feed(body)
        self.finish()

    def _prepare(self) -> None:
        lengths: dict[Algorithm, dict[str, set[int | None]]] = {}
        for canon, hash_name, length in self._wanted:
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

    def feed(self, piece: bytes) -> None:
        if not self._canons:
            self._prepare()
        for canon in self._canons.values():
            canon.feed(piece)

    def finish(self) -> None:
        if not self._canons:
            self._prepare()
        for name, canon in self._canons.items():
            canon.finish()
            for prefixes in self._hashes[name].values():
                prefixes.finish(canon.size)

    def digest(self, wanted: BodyHash) -> bytes | None:
        """The digest; None if l= exceeds the body, or if the hash was not wanted."""
        if self._digest is not None:
            return self._digest if wanted == self._wanted[0] else None
        hashes = self._hashes.get(wanted.canon, {}).get(wanted.hash_name)
        return None if hashes is None else hashes.digests.get(wanted.length)

    def size(self, canon: Algorithm) -> int:
        """Size of the canonical body in bytes."""
        return self._canons[canon].size if canon in self._canons else 0


def header_digest(block: HeaderBlock, signature: Signature) -> bytes:
    """The digest that b= signs: the fields of h=, each name's from the bottom up, then the
    signature's own field with an empty b= (sections 3.7 and 5.4.2)."""
    own, terms = signature.field, signature.terms
    fields_of = block.by_name.get
    others: list[HeaderField] | None = None
    chosen: list[HeaderField] = []
    for name, place in terms.signed:
        fields = fields_of(name)
        if fields is None:
            continue
        if name == own.name:  # a signature never signs itself among the fields of h= (section 3.5)
            if others is None:
                others = [field for field in fields if field is not own]
            fields = others
        if place <= len(fields):
            chosen.append(fields[-place])
    if terms.header_canon == "relaxed":
        signed = _relaxed([*chosen, HeaderField(own.name, b"", without_signature(own.value))])
    else:
        signed = CRLF.join([*(field.raw for field in chosen), sealed_form(own, relaxed=False)])
    return _HASHES[terms.hash_name](signed, usedforsecurity=False).digest()


def _relaxed(fields: Sequence[HeaderField]) -> bytes:
    """The relaxed form of fields (section 3.4.2), all in one pass, joined by CRLF. Blanks follow each CRLF in
    a field of a HeaderBlock, and none follows the CRLF between two fields."""
    pieces = [field.name + b":" + field.value.lstrip(b" \t") for field in fields]
    text = CRLF.join(pieces)
    if b":\r\n" in text:  # perhaps a value begins with a line end
        for at, field in enumerate(fields):
            if pieces[at].startswith(CRLF, len(field.name) + 1):
                pieces[at] = field.relaxed
        text = CRLF.join(pieces)
    text = text.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    return squeezed(text).replace(b" \r\n", CRLF).rstrip(b" ")


def sealed_form(field: HeaderField, *, relaxed: bool) -> bytes:
    """A signature's own field in the form to hash: without the b= value and the final CRLF."""
    value = without_signature(field.value)
    if relaxed:
        return field.name + b":" + relaxed_value(value)
    return field.raw[: len(field.raw) - len(field.value)] + value
