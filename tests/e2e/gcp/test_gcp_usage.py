"""What a mail uses on Google Cloud is still what the page's cost was made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import cost, usage
from tests.support.clouds.gcp import Pubsub


def test_logs_and_requests_of_a_mail_are_the_recorded_ones(pubsub: Pubsub, tmp_path: Path) -> None:
    recorded = cost.usage()["gcp"]["published"]
    found = usage.measure_gcp(pubsub, tmp_path / "gcp", 20, 5_120, publishes=True)
    for half in ("listener", "function"):
        assert found[half]["entries"] == recorded[half]["entries"]
        assert found[half]["bytes"] == pytest.approx(recorded[half]["bytes"], rel=0.02)
    assert {name: round(count) for name, count in found["requests"].items()} == {
        name: round(count) for name, count in recorded["requests"].items()
    }
    assert found["event"] == pytest.approx(recorded["event"], rel=0.02)
