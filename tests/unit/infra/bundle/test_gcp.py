"""The source zip from which Google makes its function."""

from __future__ import annotations

import zipfile
from pathlib import Path

from infra.bundle.gcp import source
from tests.support.servers.relay import ROOT


def test_google_gets_source_only_and_installs_wheels_for_its_own_system(tmp_path: Path) -> None:
    with zipfile.ZipFile(
        source(ROOT / "configs" / "mail2gcppubsub.jsonc", tmp_path / "function.zip")
    ) as made:
        names = made.namelist()
    assert {Path(name).suffix for name in names} == {".json", ".py", ".txt"}
    assert {name.partition("/")[0] for name in names} == {
        "functions",
        "main.py",
        "relay.json",
        "requirements.txt",
    }
