"""Goals are judged by ratios of the same round."""

from __future__ import annotations

import pytest

from bench import goals
from bench.measure import Sample


def sample(server: str, load: str, *, rate: float = 1.0, cpu: float = 1.0, fsync: bool = False) -> Sample:
    """1,000 mails with so many a second, and so many CPU seconds."""
    return Sample(server, load, fsync, 1_000, 1_000 / rate, cpu, 1)


def test_a_goal_has_the_median_of_the_ratios_of_rounds() -> None:
    samples = [
        each
        for mine, theirs in ((2.0, 1.0), (3.0, 4.0), (9.0, 10.0))
        for each in (sample("relay", "ii", cpu=mine), sample("go-smtp", "ii", cpu=theirs))
    ]
    assert goals.table(samples).splitlines()[2:] == [
        "| ii | CPU, relay / go-smtp | **0.90** (0.75–2.00) | ≤ 1 | yes |"
    ]


@pytest.mark.parametrize(
    ("server", "fsync", "rate", "row"),
    [
        (
            "relay, workers 2",
            False,
            99,
            "| ii | rate, relay, workers 2 / go-smtp | **0.99** (0.99–0.99) | ≥ 1 | no |",
        ),
        ("relay", True, 120, "| ii | rate, relay / go-smtp, fsync | **1.20** (1.20–1.20) | ≥ 1.2 | yes |"),
    ],
)
def test_a_rate_is_bounded_from_below(server: str, fsync: bool, rate: float, row: str) -> None:
    samples = [sample(server, "ii", rate=rate, fsync=fsync), sample("go-smtp", "ii", rate=100, fsync=fsync)]
    assert row in goals.table(samples).splitlines()


def test_cpu_time_below_the_kernels_tick_divides() -> None:
    (goal,) = [each for each in goals.GOALS if each.load == "v"]
    samples = [sample("relay", "v", cpu=0.0), sample("go-smtp", "v", cpu=0.02)]
    assert goal.ratios(samples) == [0.5]


def test_without_the_rival_there_is_no_table() -> None:
    assert goals.table([sample("relay", "ii"), sample("stock", "ii")]) == ""


def test_samples_of_another_mode_do_not_count() -> None:
    assert goals.table([sample("relay", "i", fsync=True), sample("go-smtp", "i", fsync=True)]) == ""


def test_the_cost_of_a_sending_policy_is_that_beside_the_same_server_without() -> None:
    samples = [sample("relay", "ii", cpu=1.0), sample("relay, sending", "ii", cpu=1.02)]
    assert goals.table(samples).splitlines()[2:] == [
        "| ii | CPU, relay, sending / relay | **1.02** (1.02–1.02) | ≤ 1.03 | yes |"
    ]
