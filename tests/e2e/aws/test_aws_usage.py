"""What a mail uses on AWS is still what the page's cost was made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import cost, usage
from tests.support.clouds.ministack import Ministack


def test_logs_and_requests_of_a_mail_are_the_recorded_ones(aws: Ministack, tmp_path: Path) -> None:
    recorded = cost.usage()["aws"]["published"]
    found = usage.measure_aws(aws, tmp_path / "aws", 20, 5_120, publishes=True)
    for half in ("listener", "function"):
        assert found[half]["entries"] == recorded[half]["entries"]
        assert found[half]["bytes"] == pytest.approx(recorded[half]["bytes"], rel=0.02)
    assert whole(found["requests"]) == whole(recorded["requests"])


def whole(requests: dict[str, float]) -> dict[str, int]:
    return {name: round(count) for name, count in requests.items() if round(count)}
