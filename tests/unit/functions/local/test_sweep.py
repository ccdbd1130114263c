"""The figures of a spool follow every change of it, whichever process made it, at a bounded cost."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.delivery.events import DeliveryEvents
from functions.ids import uuid7
from functions.local import sweep
from functions.local.layout import Part, bury
from functions.local.messages import Settings
from functions.local.sweep import Sweeper
from functions.spool.dead_record import DeadRecord

SETTINGS = Settings(sweep=300.0)


class Figures(DeliveryEvents):
    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def backlog(self, oldest: float | None, unfinished: int, dead: int) -> None:
        self.told.append((unfinished, dead))


@pytest.fixture
def part(tmp_path: Path) -> Part:
    made = Part(tmp_path / "part-0")
    made.create()
    return made


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture
def own(part: Part) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(part.connect()) as db:
        yield db


def a_record() -> DeadRecord:
    return DeadRecord(
        id=uuid7(), key="k", flow="in", output="o", reason="no", code="5.0.0", attempts=1, first=1, last=2
    )


def test_they_follow_each_change(
    part: Part, own: sqlite3.Connection, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PATIENCE", 0.0)
    sweeper = Sweeper(part, figures)

    def look(now: float) -> None:
        sweeper.look(own, now, SETTINGS)

    look(0.0)
    assert figures.told == [(0, 0)]
    look(1.0)
    assert figures.told == [(0, 0)]  # nothing changed
    bury(own, a_record())
    look(2.0)
    with contextlib.closing(part.connect()) as another:
        bury(another, a_record())
    look(3.0)
    assert figures.told == [(0, 0), (0, 1), (0, 2)]
    look(301.0)
    assert figures.told[3:] == [(0, 2)]


def test_a_count_that_takes_long_is_repeated_seldom(
    part: Part, own: sqlite3.Connection, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep.time, "perf_counter", iter([0.0, 0.1, 5.0, 5.1]).__next__)
    sweeper = Sweeper(part, figures)
    for now in (0.0, 1.0, 99.0, 101.0):
        bury(own, a_record())
        sweeper.look(own, now, SETTINGS)
    assert figures.told == [(0, 1), (0, 4)]
