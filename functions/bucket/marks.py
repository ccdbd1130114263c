"""Reads the keys of a spool bucket, and the marks beside dead records.

Below `dead/H/ID/`, besides the records `OUTPUT.json`, there are:

- `OUTPUT.dropped`: an operator gave the output up for good; it counts as done;
- `parked-DIGEST`: every output of the mail is done or dead, and DIGEST is made of the dead ones. A
  record that goes (replay) or comes makes the mark void; no code needs to remove it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from functions.bucket.store import ObjectStore
from functions.spool.object import shard

_ID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_SPOOL: Final = re.compile(rf"spool/[0-9a-f]/\d{{4}}/\d\d/\d\d/\d\d/({_ID})\.eml")
_DEAD: Final = re.compile(rf"dead/[0-9a-f]/({_ID})/(.+)")
_KEPT: Final = re.compile(rf"kept/\d{{4}}/\d\d/\d\d/\d\d/({_ID})\.eml")


def spooled_id(key: str, prefix: str) -> str | None:
    """The id of the mail under a key of the spool; None for any other key."""
    found = _SPOOL.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    return found[1] if found else None


def mail_id_of(text: str) -> str | None:
    """A mail's id if the whole text is one."""
    return text if re.fullmatch(_ID, text) else None


def dead_folder(mail_id: str) -> str:
    """The prefix of a mail's dead records and marks, below the spool's prefix."""
    return f"dead/{shard(mail_id)}/{mail_id}/"


def parked_name(dead: Iterable[str]) -> str:
    """The name of the mark for a set of dead outputs."""
    text = "\n".join(sorted(dead))
    return f"parked-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclass(slots=True)
class Marks:
    """The names below one mail's `dead/H/ID/`: output keys of dead records and of dropped ones, and the
    names of parked marks."""

    dead: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    parked: set[str] = field(default_factory=set)

    def add(self, name: str) -> None:
        """Add one object's name."""
        if name.startswith("parked-"):
            self.parked.add(name)
        elif name.endswith(".json"):
            self.dead.add(name.removesuffix(".json"))
        elif name.endswith(".dropped"):
            self.dropped.add(name.removesuffix(".dropped"))

    @property
    def is_parked(self) -> bool:
        """True if no output is left to be tried."""
        return bool(self.dead) and parked_name(self.dead) in self.parked

    @property
    def is_replayed(self) -> bool:
        """True if a parked mail has lost a record since it was parked: an output is to run again,
        whatever the mail's age."""
        return bool(self.parked) and not self.is_parked


def dead_name(key: str, prefix: str) -> tuple[str, str] | None:
    """Mail id and name of an object below `dead/`; None for any other key."""
    found = _DEAD.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    return (found[1], found[2]) if found else None


def kept_id(key: str, prefix: str) -> str | None:
    """The id of the mail kept under a key; None for any other key."""
    found = _KEPT.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    return found[1] if found else None


def read_marks(store: ObjectStore, prefix: str, mail_id: str) -> Marks:
    """The content below the mail's `dead/H/ID/`. Raises DeliveryFault."""
    marks = Marks()
    for found in store.list(prefix + dead_folder(mail_id)):
        name = dead_name(found.key, prefix)
        if name is not None:
            marks.add(name[1])
    return marks


def clear_marks(store: ObjectStore, prefix: str, mail_id: str, marks: Marks) -> None:
    """Remove the marks of a mail that is gone; its dead records stay. Raises DeliveryFault."""
    for name in (*marks.parked, *(f"{key}.dropped" for key in marks.dropped)):
        store.delete(prefix + dead_folder(mail_id) + name)
