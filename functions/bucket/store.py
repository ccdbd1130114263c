"""Object stores as the spool needs them: few methods, the same for S3 and Cloud Storage.

Every method raises Temporary if the store cannot be reached or asks for fewer requests, and
Permanent if it refuses for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol

from functions.errors import DeliveryFault


class ObjectInfo(NamedTuple):
    """One object of a listing: its key, size in bytes, and time of last change (Unix seconds)."""

    key: str
    size: int
    modified: float


class Times(NamedTuple):
    """The last change of an object, and the current time: Unix seconds, both by the provider's clock."""

    modified: float
    now: float


def times_of(modified: float, date: str | None) -> Times | None:
    """The times of an object whose provider answered with this `Date` field (RFC 9110 section 6.6.1)."""
    try:
        return None if date is None else Times(modified, parsedate_to_datetime(date).timestamp())
    except (ValueError, OverflowError):
        return None


@contextmanager
def reaching(fault_of: Callable[[Exception, str], DeliveryFault], what: str) -> Iterator[None]:
    """Raises a provider's exception as the fault that it is; `what` names the attempted step."""
    try:
        yield
    except Exception as error:
        raise fault_of(error, what) from error


class ObjectStore(Protocol):
    """One bucket. Keys are whole, prefix included. May be called from several threads at once."""

    def read(self, key: str, most: int | None = None) -> bytes | None:
        """An object's bytes, or its first `most`; None if the object does not exist."""

    def create(self, key: str, data: bytes, content_type: str) -> bool:
        """Store an object under a free key. False, without any change, if the key is taken."""

    def replace(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object, and replace any old one."""

    def delete(self, key: str) -> None:
        """Remove an object; removing a missing one succeeds."""

    def times(self, key: str) -> Times | None:
        """An object's age by its provider's clock; None if the object does not exist, or the answer has
        no age."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose keys start with `prefix`, in the order of their keys."""
