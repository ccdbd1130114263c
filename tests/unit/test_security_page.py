"""docs/security.md: tests show its statements about forgeries, and the tests exist."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from tests.support.servers.relay import ROOT

PAGE: Final = (ROOT / "docs" / "security.md").read_text()
TABLES: Final = re.findall(r"\| shown by\n[-|]+\n((?:[^\n]+ \| [^\n]*\n)+)", PAGE)
ROWS: Final = [
    [cell.strip() for cell in line.split(" | ")] for table in TABLES for line in table.splitlines()
]


def test_there_are_rows() -> None:
    assert len(ROWS) >= 7
    assert all(all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_row_is_shown_by_tests(row: list[str]) -> None:
    names = re.findall(r"`([^`]+)`", row[-1])
    assert names
    for name in names:
        path, _, test = name.partition("::")
        file = ROOT / "tests" / path
        assert file.exists(), name
        functions = {
            node.name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        }
        assert functions, name
        assert not test or test in functions, name
