"""The objects that an output stored of a mail, as events and manifests name them, and their digests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from functions.message.mail import CHUNK


class Digest(NamedTuple):
    """Size in bytes, and SHA-256 in hex."""

    size: int
    sha256: str


def digest_of_stream(stream: BinaryIO) -> Digest:
    """Reads a stream to its end, a piece at a time. Raises what the stream raises."""
    size, digest = 0, hashlib.sha256()
    while piece := stream.read(CHUNK):
        size += len(piece)
        digest.update(piece)
    return Digest(size, digest.hexdigest())


class StoredObject(NamedTuple):
    """One object. `url` is `s3://…` or `gs://…`; the digest is that of the object's bytes, and None if
    nobody needs it."""

    url: str
    bucket: str
    key: str
    digest: Digest | None = None
    link: str = ""
    """A URL by which the object can be read for a while. It is a secret."""

    def facts(self) -> dict[str, Any]:
        """The object as JSON shows it."""
        found: dict[str, Any] = {"url": self.url, "bucket": self.bucket, "key": self.key}
        found |= self.digest._asdict() if self.digest is not None else {}
        return found | ({"link": self.link} if self.link else {})


@dataclass(slots=True)
class StoredMail:
    """The objects of one mail. `attachments` are by their place among the mail's attachments; `named`
    holds the others: raw, text, html, manifest."""

    named: dict[str, StoredObject] = field(default_factory=dict)
    attachments: dict[int, StoredObject] = field(default_factory=dict)

    @property
    def first(self) -> StoredObject | None:
        """The object that an event names as the stored mail: the whole mail if it is stored."""
        return next(iter((*self.named.values(), *self.attachments.values())), None)

    def add(self, place: str | int, there: StoredObject) -> None:
        """Add one object, by its name or its place among the attachments."""
        if isinstance(place, int):
            self.attachments[place] = there
        else:
            self.named[place] = there

    def url(self, part: str) -> str | None:
        """The URL of one of the named objects; None if it is not stored."""
        found = self.named.get(part)
        return None if found is None else found.url
