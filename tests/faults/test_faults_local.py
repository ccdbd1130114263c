"""A short piece of the campaign (`make faults` runs all of it): a relay for each kind of fault."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.campaign.episodes import PLANS, episode, gentle_episode
from tests.faults.campaign.relay_under_test import may_mount

pytestmark = pytest.mark.slow

SEED = os.environ.get("FAULTS_SEED") or os.urandom(4).hex()
"""Printed with a failure; set FAULTS_SEED to repeat one."""


@pytest.mark.parametrize("number", [1, 2])
def test_rounds_of_faults(tmp_path: Path, number: int) -> None:
    """Every mail that was answered 250 is in every output once, whatever happened to the relay."""
    plan = replace(PLANS[number], disks=may_mount(), clock=number == 2, aws=number == 1)
    episode(tmp_path / "house", plan, rounds=2, mails=50, seed=f"{SEED}-{number}")


def test_the_counters_agree_with_what_arrived(tmp_path: Path) -> None:
    gentle_episode(tmp_path / "house", mails=30, seed=SEED)
