"""Cuts the values of an event to bounds, and keeps count of what it cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, TypeVar

from functions.message.addresses import Address

T = TypeVar("T")

Unit = Literal["characters", "items"]


_PIECE: Final = 65_536  # characters that are measured at once, so no text is in memory twice


class Bounds(NamedTuple):
    """Bounds for everything but text and html: characters of each value, items of each list, characters
    of all header fields together, and characters of the texts that `text_limit` covers."""

    characters: int
    items: int
    headers: int
    auth: bool = True
    texts: int = 0


LEVELS: Final = (
    Bounds(100_000, 2_000, 262_144),
    Bounds(100_000, 2_000, 32_768),
    Bounds(100_000, 2_000, 4_096),
    Bounds(1_000, 500, 4_096),
    Bounds(250, 100, 2_048),
    Bounds(100, 20, 1_024),
    Bounds(60, 2, 512, auth=False),
)
"""From an event without cuts to the smallest one: header fields go first, then long lists and values, then
the results of mail-auth."""


class Cuts:
    """Cuts to the bounds of one level. `report` names each field that lost something."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._counts: dict[tuple[str, Unit], tuple[int, int, bool]] = {}

    def count(self, field: str, unit: Unit, kept: int, total: int, *, at_least: bool = False) -> None:
        """`kept` of `total` are shown; the values of one field that are cut add up. `at_least` says that
        the mail has more than the reader reads."""
        if kept < total or at_least:
            was = self._counts.get((field, unit), (0, 0, False))
            self._counts[field, unit] = (was[0] + kept, was[1] + total, was[2] or at_least)

    def text(self, field: str, text: str, most: int | None = None) -> str:
        """A text, cut to the characters of a value, or to `most`."""
        most = self.bounds.characters if most is None else most
        if len(text) <= most:
            return text
        self.count(field, "characters", most, len(text))
        return text[:most]

    def items(self, field: str, items: Sequence[T], *, at_least: bool = False) -> Sequence[T]:
        """A list, cut to the items of a list."""
        kept = items[: self.bounds.items]
        self.count(field, "items", len(kept), len(items), at_least=at_least)
        return kept

    def texts(self, field: str, texts: Sequence[str]) -> list[str]:
        """A list of texts; both are cut."""
        return [self.text(field, each) for each in self.items(field, texts)]

    def addresses(self, field: str, addresses: Sequence[Address]) -> list[Address]:
        """A list of addresses; list, names and addresses are cut."""
        return [
            Address(self.text(f"{field}.name", one.name), self.text(f"{field}.address", one.address))
            for one in self.items(field, addresses)
        ]

    def tree(self, field: str, value: Any) -> Any:
        """Plain data; every list and text in it is cut."""
        if isinstance(value, str):
            return self.text(field, value)
        if isinstance(value, Mapping):
            self.count(field, "items", min(len(value), self.bounds.items), len(value))
            pairs = islice(value.items(), self.bounds.items)
            return {self.text(field, str(key)): self.tree(field, item) for key, item in pairs}
        if isinstance(value, list | tuple):
            return [self.tree(field, item) for item in self.items(field, value)]
        return value

    def fields(self, fields: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
        """Header fields from the top, as many as the bounds let in."""
        left = self.bounds.headers
        kept: list[dict[str, str]] = []
        for name, value in islice(fields, self.bounds.items):
            left -= len(name) + len(value)
            if left < 0:
                break
            kept.append({"name": name, "value": self.text("email.headers.value", value)})
        return kept

    def report(self) -> list[dict[str, Any]]:
        """One entry for each field that was cut, in the order of the cuts."""
        return [entry(field, unit, *counts) for (field, unit), counts in self._counts.items()]


def entry(field: str, unit: Unit, kept: int, total: int, at_least: bool) -> dict[str, Any]:
    """One entry of the report: `kept` of `total` units of a field are shown."""
    return {"field": field, "unit": unit, "kept": kept, "total": total, "atLeast": at_least}


def share(bodies: list[str], room: int) -> list[str]:
    """Both bodies within `room` bytes of JSON; one may use the room that the other leaves."""
    shown = []
    needs = sum(map(octets, bodies))
    for left, body in zip(range(len(bodies), 0, -1), bodies, strict=True):
        own = octets(body)
        needs -= own
        fits = body if own <= room // left else _prefix(body, max(room // left, room - needs))
        shown.append(fits)
        room -= octets(fits)
    return shown


def octets(text: str) -> int:
    """The length of a text between the quotes of JSON."""
    pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    return sum(
        len(json.dumps(one, ensure_ascii=False).encode("utf-8", "surrogatepass")) - 2 for one in pieces
    )


def _prefix(text: str, room: int) -> str:
    """The longest start of `text` that takes at most `room` bytes in JSON."""
    text = text[: max(0, room)]
    if octets(text) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if octets(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low]
