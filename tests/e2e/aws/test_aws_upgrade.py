"""This version's function respects the spool and receipts of an earlier version in S3 and DynamoDB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clouds.ministack import Ministack
from tests.support.golden.aws import AwsSite
from tests.support.golden.recording import read_json, recordings
from tests.support.golden.upgrade import CHECKS, Upgrade
from tests.support.servers.smarthost import smarthost


@pytest.mark.parametrize("recording", recordings("aws.json"), ids=lambda path: path.parent.name)
@pytest.mark.parametrize(("check", "later"), CHECKS, ids=[check.__name__ for check, _ in CHECKS])
def test_the_function_goes_on_where_an_earlier_version_stopped(
    aws: Ministack,
    monkeypatch: pytest.MonkeyPatch,
    recording: Path,
    check: Callable[[Upgrade], None],
    later: float,
) -> None:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    found = read_json(recording)
    with smarthost() as first, smarthost() as second:
        site = AwsSite(aws, found["config"], {"first": first, "second": second})
        try:
            check(Upgrade(site, found, later=later))
        finally:
            site.close()
