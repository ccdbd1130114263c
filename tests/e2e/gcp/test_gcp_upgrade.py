"""This version's function respects the spool and receipts of an earlier version in Cloud Storage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clouds.gcp import Pubsub
from tests.support.golden.gcp import GcpSite, start_gcs
from tests.support.golden.recording import read_json, recordings
from tests.support.golden.upgrade import CHECKS, Upgrade
from tests.support.servers.smarthost import smarthost


@pytest.mark.parametrize("recording", recordings("gcp.json"), ids=lambda path: path.parent.name)
@pytest.mark.parametrize(("check", "later"), CHECKS, ids=[check.__name__ for check, _ in CHECKS])
def test_the_function_goes_on_where_an_earlier_version_stopped(
    pubsub: Pubsub,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    recording: Path,
    check: Callable[[Upgrade], None],
    later: float,
) -> None:
    gcs = start_gcs(tmp_path)
    try:
        for name, value in GcpSite.environment(gcs, pubsub).items():
            monkeypatch.setenv(name, value)
        found = read_json(recording)
        with smarthost() as first, smarthost() as second:
            site = GcpSite(gcs, pubsub, found["config"], {"first": first, "second": second})
            try:
                check(Upgrade(site, found, later=later))
            finally:
                site.close()
    finally:
        gcs.stop()
