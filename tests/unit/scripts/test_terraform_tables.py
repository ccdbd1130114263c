"""The tables of the Terraform modules' pages are those of their files."""

from __future__ import annotations

import pytest

from scripts import terraform_tables
from tests.support.servers.relay import ROOT

PAGE = ROOT / "infra" / "terraform" / "aws" / "README.md"


def test_the_tables_are_current() -> None:
    assert terraform_tables.page(PAGE) == PAGE.read_text(), "run python scripts/terraform_tables.py"


@pytest.mark.parametrize("row", ["`build` | `string` | required", "`eips` | `list(string)` | `[]`"])
def test_a_row_has_type_and_default(row: str) -> None:
    assert row in PAGE.read_text()
