"""The folder of the CDK app."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any, Final

import aws_cdk

from tests.support.servers.relay import ROOT

IMPORTED: Final = {"aws_cdk", "cdk_nag", "constructs", "functions", "infra", "listener"}


def test_nothing_beside_the_app_hides_a_package_that_it_imports() -> None:
    """`python infra/cdk/app.py` looks for imports in that folder first."""
    names = {path.stem for path in (ROOT / "infra" / "cdk").iterdir() if path.name != "__pycache__"}
    assert "app" in names
    assert not names & IMPORTED
    assert not names & sys.stdlib_module_names


def recommended() -> dict[str, Any]:
    """The feature flags of the installed library, with the values that it recommends to a new app."""
    (library,) = (Path(aws_cdk.__file__).parent / "_jsii").glob("aws-cdk-lib@*.jsii.tgz")
    with tarfile.open(library) as archive:
        for member in archive:
            if member.name == "package/recommended-feature-flags.json":
                content = archive.extractfile(member)
                assert content is not None
                return dict(json.load(content))
    raise AssertionError("the library lists no feature flags")


OTHERWISE: Final = {"@aws-cdk/core:validateAgainstDefaultRules": False}
"""Flags that differ: docs/adr/0008-accounts.md has the reasons."""


def test_every_feature_flag_of_the_library_is_set() -> None:
    """A flag that is set later may replace resources, so a new one is looked at when the library comes;
    tests/unit/infra/cdk/test_template.py holds the logical ids."""
    found = recommended()
    assert len(found) > 80
    assert set(OTHERWISE) <= set(found)
    assert json.loads((ROOT / "cdk.json").read_text())["context"] == found | OTHERWISE
    reasons = (ROOT / "docs" / "adr" / "0008-accounts.md").read_text()
    for name in OTHERWISE:
        assert f"`{name}`" in reasons, name
