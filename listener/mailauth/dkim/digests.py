"""The two hashes of a signature: over header fields and over the body (RFC 6376 section 3.7).

The body is read once for all signatures: there is one hash object for each canonical form and algorithm,
and the hashes of l= are taken on the way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from functions.message.canon import CRLF, Algorithm, BodyCanon, is_canonical, relaxed_value
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

    __slots__ = ("_canons", "_digest", "_hashes", "_wanted")

    def __init__(self, wanted: Sequence[BodyHash]) -> None:
        self._wanted = wanted
        self._hashes: dict[Algorithm, dict[str, _Prefixes]] = {}
        self._canons: dict[Algorithm, BodyCanon] = {}
        self._digest: bytes | None = None
        """The hash of a body that came whole, if only this one is wanted."""

    def take(self, body: bytes) -> None:
        """Take the whole body at once."""
        first = self._wanted[0]
        if (
            (len(self._wanted) == 1 or self._wanted.count(first) == len(self._wanted))
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
    relaxed = terms.header_canon == "relaxed"
    fields_of, usual = block.by_name.get, block.usual
    pieces: list[bytes] = []
    for name, place in terms.signed:
        fields = fields_of(name)
        if fields is None:
            continue
        if name == own.name:  # a signature never signs itself among the fields of h= (section 3.5)
            fields = [raw for raw in fields if raw is not own.raw]
        if place <= len(fields):
            raw = fields[-place]
            if not relaxed:
                pieces.append(raw)
            elif usual:  # as `relaxed_usual`, without a call for each field
                pieces.append(name + b":" + b" ".join(raw.partition(b":")[2].split()))
            else:
                pieces.append(name + b":" + relaxed_value(raw.partition(b":")[2]))
    pieces.append(sealed_form(own, block.relaxed if relaxed else None))
    return _HASHES[terms.hash_name](CRLF.join(pieces), usedforsecurity=False).digest()


def sealed_form(field: HeaderField, relaxed: Callable[[bytes], bytes] | None) -> bytes:
    """A signature's own field in the form to hash: without the b= value and the final CRLF. `relaxed` makes
    the relaxed form of its value; None for the simple one."""
    value = without_signature(field.value)
    if relaxed is not None:
        return field.name + b":" + relaxed(value)
    return field.raw[: len(field.raw) - len(field.value)] + value
