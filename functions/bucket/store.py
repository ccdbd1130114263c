"""Object stores as a spool's home sees them: few verbs, the same for S3 and Cloud Storage.

Every method raises Temporary where the store cannot be reached or asks for patience, and Permanent
where it refuses for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol


class ObjectInfo(NamedTuple):
    """One object of a listing: its key, size in octets, and time of last change (Unix seconds)."""

    key: str
    size: int
    modified: float


class Times(NamedTuple):
    """When an object was last changed, and what time it is: Unix seconds by the provider's clock alone."""

    modified: float
    now: float


def times_of(modified: float, date: str | None) -> Times | None:
    """The times of an object whose provider answered with this `Date` field (RFC 9110 section 6.6.1)."""
    try:
        return None if date is None else Times(modified, parsedate_to_datetime(date).timestamp())
    except (ValueError, OverflowError):
        return None


class ObjectStore(Protocol):
    """One bucket. Keys are whole, prefix included. May be called from several threads at once."""

    def read(self, key: str, most: int | None = None) -> bytes | None:
        """An object's octets, or its first `most`; None where there is no such object."""

    def create(self, key: str, data: bytes, content_type: str) -> bool:
        """Store an object under a key that is free; False, and nothing happens, where it is taken."""

    def replace(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object, whatever was there."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is removed already."""

    def times(self, key: str) -> Times | None:
        """An object's age as its provider sees it; None where there is no such object, or where the answer
        does not say."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose keys start with `prefix`, in the order of their keys."""
