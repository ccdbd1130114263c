"""What an audit finds: the deliveries, their faults, and how arrived mails are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.campaign.numbered_mails import id_of, letter, number_of
from tests.support.mails.stored import strip_added_fields


@dataclass
class Found:
    """The deliveries, and their faults."""

    mails: int = 0
    """Mails that were answered 250."""
    sent: int = 0
    """All mails that were sent to their end, answered or not."""
    effects: int = 0
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    copies: Counter[str] = field(default_factory=Counter)
    """By output: mails that came out again because their outcome was unknown."""
    outputs: Counter[str] = field(default_factory=Counter)
    """By output: mails that came out of it, each time counted."""
    dead: int = 0
    spoiled: int = 0
    """Records of mails that were spoiled in the spool."""

    @property
    def doubtful(self) -> int:
        """All copies in doubt."""
        return self.copies.total()

    @property
    def wrong(self) -> list[str]:
        return [
            f"{kind}: {each}"
            for kind, some in (
                ("lost", self.lost),
                ("torn", self.torn),
                ("repeated", self.repeated),
                ("wrong", self.other),
            )
            for each in some
        ]

    def add(self, other: Found) -> None:
        """Sum up."""
        for name in ("mails", "sent", "effects", "dead", "spoiled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("lost", "torn", "repeated", "other"):
            getattr(self, name).extend(getattr(other, name))
        self.copies += other.copies
        self.outputs += other.outputs


Arrived = dict[int, tuple[int, str]]
"""Number of a mail to how often it is there, and its id."""


def read_mail(stored: bytes, where: str, arrived: Arrived, found: Found) -> int | None:
    """Count a mail as it arrived; returns its number, None for a torn one."""
    number, mail_id = number_of(stored), id_of(stored)
    ours = stored.find(b"x-smtp-relay: ")
    whole = number is not None and mail_id is not None and ours >= 0
    if not whole or strip_added_fields(stored[ours:]) != letter(number or 0):
        found.torn.append(f"{where}: {stored[:200]!r}")
        return None
    assert number is not None
    arrived[number] = (arrived.get(number, (0, ""))[0] + 1, mail_id or "")
    return number


def hold(name: str, arrived: Arrived, acknowledged: set[int], possible: set[int], found: Found) -> None:
    """All acknowledged mails exist, and no other one."""
    if missing := acknowledged - arrived.keys():
        found.lost.append(f"answered 250 and not in {name}: {len(missing)}, {some(missing)}")
    if strange := arrived.keys() - possible:
        found.other.append(f"in {name} and never sent: {some(strange)}")


def faults(log: str) -> list[str]:
    """Tracebacks in the log: no fault around the relay excuses one."""
    return [f"a traceback: {line[:3_000]}" for line in log.splitlines() if "Traceback" in line]


def some(numbers: Iterable[int]) -> str:
    """The first few."""
    return ", ".join(map(str, sorted(numbers)[:8]))
