"""The attachments of a mail as events and manifests describe them."""

from __future__ import annotations

from typing import Any, Final

from functions.message.charset import decode
from functions.message.event.objects import Digest, StoredMail
from functions.message.fields import first_value
from functions.message.mime import Attachment, Parts
from functions.message.reading.structure import Leaf

MAX_NAME: Final = 1_000
"""Most characters of an attachment's name and other words in a description."""

_HEAD: Final = 65_536  # bytes of a part's header to search for its Content-ID


def described(parts: Parts, stored: StoredMail | None = None) -> list[dict[str, Any]]:
    """One description for each attachment. Decodes an attachment once, and not at all if it was stored
    with its digest."""
    found = []
    for number, attachment in enumerate(parts.attachments):
        there = stored.attachments.get(number) if stored is not None else None
        digest = there.digest if there is not None else None
        size, sha256 = digest or Digest(attachment.size, attachment.leaf.sha256)
        about = {"filename": attachment.filename, "size": size} | facts(attachment) | {"sha256": sha256}
        found.append(about | ({"url": there.url} if there is not None else {}))
    return found


def facts(attachment: Attachment) -> dict[str, str]:
    """The attachment's own words about itself: contentType, contentId and disposition. Those that it
    does not give are left out."""
    leaf = attachment.leaf
    words = {
        "contentType": attachment.content_type,
        "contentId": content_id(leaf),
        "disposition": leaf.disposition,
    }
    return {name: word[:MAX_NAME] for name, word in words.items() if word}


def content_id(leaf: Leaf) -> str:
    """The Content-ID of a part (RFC 2045 section 7), with its angle brackets; "" without one."""
    # No line of a part's header begins with two hyphens, but the delimiter line above it does.
    low = max(0, leaf.start - _HEAD)
    line = leaf.data.rfind(b"\r\n--", low, leaf.start)
    value = first_value(leaf.data[line if line >= 0 else low : leaf.start], b"content-id")
    return "" if value is None else decode(value).strip()
