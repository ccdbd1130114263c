"""The sweep of a bucket: when it notifies, and its counts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.backends import Swept
from functions.bucket.runner import RunResult
from functions.bucket.sweep import PERIOD, WINDOW, sweep, times_due
from functions.errors import Permanent, Temporary
from tests.support.clouds.bucket_runner import Place

MINUTE = 60.0
HOUR = 3600.0


def pass_over(place: Place, since: float | None = None, left: float = 1000.0) -> Swept:
    begun = place.now - WINDOW if since is None else since
    return sweep(
        place.store, place.prefix, place.notify, now=place.now, since=begun, seconds_left=lambda: left
    )


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (0, 0),
        (15 * MINUTE - 1, 0),
        (15 * MINUTE, 1),
        (30 * MINUTE, 2),
        (HOUR, 3),
        (2 * HOUR, 4),
        (12 * HOUR, 7),
        (24 * HOUR, 8),
        (36 * HOUR, 9),
    ],
)
def test_steps(age: float, expected: int) -> None:
    assert times_due(age) == expected


@given(st.lists(st.floats(0, PERIOD / 3), min_size=300, max_size=300))
def test_a_mail_is_notified_at_each_step_whatever_the_jitter(jitter: list[float]) -> None:
    notified = 0
    for number, late in enumerate(jitter):
        age = number * PERIOD + late
        notified += times_due(age) > times_due(age - WINDOW)
    # 300 sweeps are 25 hours: eight steps, each seen by one pass at least and three at most.
    assert 8 <= notified <= 24


def test_young_mail_is_counted_and_left_alone() -> None:
    place = Place()
    place.put()
    place.now += 14 * MINUTE
    found = pass_over(place)
    assert found.oldest == pytest.approx(14 * MINUTE, abs=1)
    assert (found.unfinished, found.dead, found.notified) == (1, 0, 0)


def test_notifies_when_a_step_is_passed_and_not_between() -> None:
    place = Place()
    key, _ = place.put()
    place.now += 16 * MINUTE
    assert pass_over(place).notified == 1
    assert place.notified == [key]
    place.now += 11 * MINUTE
    assert pass_over(place).notified == 0


@pytest.mark.parametrize("days", [-4, -4_000])
def test_a_clock_that_is_behind_delays_no_mail(days: int) -> None:
    place = Place()
    key, _ = place.put()
    place.now += days * 86_400.0
    place.ahead = -days * 86_400.0
    for _ in range(8):
        place.now += 5 * MINUTE
        pass_over(place)
    assert set(place.notified) == {key}
    assert 2 <= len(place.notified) <= 6, "at its steps, and not at each pass"
    place.store.fails = lambda verb, at: verb == "times"
    assert pass_over(place).unfinished == 1


def test_a_mail_received_under_a_clock_ahead_is_notified_when_its_object_is_old_enough() -> None:
    place = Place()
    key, _ = place.put(age=-4 * 86_400.0)
    place.now = time.time()
    place.store.modified[key] = place.now
    place.now += 16 * MINUTE
    assert pass_over(place).notified == 1


def test_notifications_off_the_sweep_delivers_all() -> None:
    place = Place()
    keys = [place.put()[0] for _ in range(20)]
    place.now += 16 * MINUTE
    assert pass_over(place).notified == 20
    assert sorted(place.notified) == sorted(keys)
    assert {place.run(key).result for key in place.notified} == {RunResult.FINISHED}


def test_parked_mail_is_dead_not_unfinished() -> None:
    place = Place()
    key, _ = place.put()
    place.a.always = Permanent("no")
    place.run(key)
    place.now += 13 * HOUR
    assert pass_over(place, since=0.0) == Swept(None, 0, 1, 0)


def test_a_mail_with_a_dead_and_a_live_output_is_notified() -> None:
    place = Place()
    key, _ = place.put()
    place.a.always, place.b.always = Permanent("no"), Temporary("later")
    place.run(key)
    place.now += 16 * MINUTE
    found = pass_over(place)
    assert (found.unfinished, found.dead, found.notified) == (1, 1, 1)


def test_strangers_in_the_spool_are_passed_over() -> None:
    place = Place()
    place.store.objects["relay/spool/0/readme.txt"] = b"?"
    place.store.objects["relay/spool/probe"] = b""
    assert pass_over(place, since=0.0) == Swept(None, 0, 0, 0)


def test_stops_in_time() -> None:
    place = Place()
    for _ in range(3):
        place.put()
    place.now += 16 * MINUTE
    assert pass_over(place, left=20.0).notified == 0


def test_a_large_backlog_is_listed_by_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.bucket.sweep._FEW", 10)
    place = Place()
    for _ in range(50):
        place.put()
    place.now += 16 * MINUTE
    assert pass_over(place).unfinished == 50
    assert len(set(place.notified)) == 50
