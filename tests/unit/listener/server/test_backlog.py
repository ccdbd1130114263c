"""The backlogs of several parts, added up."""

from __future__ import annotations

import pytest

from functions.delivery.events import DeliveryEvents
from listener.server.backlog import Backlogs


class Told(DeliveryEvents):
    def __init__(self) -> None:
        self.backlogs: list[tuple[float | None, int, int]] = []
        self.errors = 0

    def spool_error(self) -> None:
        self.errors += 1

    def backlog(self, oldest: float | None, unfinished: int, dead: int) -> None:
        self.backlogs.append((oldest, unfinished, dead))


def test_parts_are_added_up_and_the_oldest_mail_of_all_is_told_by_its_age() -> None:
    told = Told()
    backlogs = Backlogs(told)
    first, second = backlogs.part(), backlogs.part()
    first.backlog(None, 0, 1)
    second.backlog(60.0, 2, 0)
    first.backlog(7.0, 3, 1)
    second.backlog(None, 0, 0)
    ages = [age for age, _, _ in told.backlogs]
    assert ages == [None, pytest.approx(60, abs=5), pytest.approx(60, abs=5), pytest.approx(7, abs=5)]
    assert [counts for _, *counts in told.backlogs] == [[0, 1], [2, 1], [5, 1], [3, 1]]


def test_every_other_event_of_a_part_goes_straight_on() -> None:
    told = Told()
    part = Backlogs(told).part()
    part.spool_error()
    assert told.errors == 1
    events = [name for name in vars(DeliveryEvents) if not name.startswith("_") and name != "backlog"]
    assert events
    assert all(getattr(part, name) == getattr(told, name) for name in events)
