"""The folder of the CDK app."""

from __future__ import annotations

import sys
from typing import Final

from tests.support.servers.relay import ROOT

IMPORTED: Final = {"aws_cdk", "cdk_nag", "constructs", "functions", "infra", "listener"}


def test_nothing_beside_the_app_hides_a_package_that_it_imports() -> None:
    """`python infra/cdk/app.py` looks for imports in that folder first."""
    names = {path.stem for path in (ROOT / "infra" / "cdk").iterdir() if path.name != "__pycache__"}
    assert "app" in names
    assert not names & IMPORTED
    assert not names & sys.stdlib_module_names
