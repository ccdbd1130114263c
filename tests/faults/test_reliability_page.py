"""docs/reliability.md: the tests that it names exist, and it covers the campaigns' faults."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from tests.faults.campaign import clients, dependencies, faults, relay_under_test
from tests.faults.campaign.clouds import faults as cloud_faults
from tests.faults.campaign.clouds.proxy import ANSWERING
from tests.support.servers.relay import ROOT

PAGE: Final = (ROOT / "docs" / "reliability.md").read_text()

LOCAL: Final = {
    *faults.FAULTS,
    *dependencies.NextHop.BEHAVIOURS,
    *dependencies.FilterServer.BEHAVIOURS,
    *dependencies.Hook.BEHAVIOURS,
    *dependencies.TokenEndpoint.BEHAVIOURS,
    *dependencies.ZONES,
    *ANSWERING,
    clients.quitting.__name__,
    relay_under_test.RelayUnderTest.slow_output.__name__,
}
CLOUDS: Final = {
    *cloud_faults.FAULTS,
    *ANSWERING,
    *dependencies.NextHop.BEHAVIOURS,
    *dependencies.Hook.BEHAVIOURS,
    *dependencies.TokenEndpoint.BEHAVIOURS,
}


def rows() -> list[list[str]]:
    """The rows of the tables of faults."""
    found = []
    for table in re.findall(r"^fault \|[^\n]*\n[-|]+\n((?:[^\n]+ \| [^\n]*\n)+)", PAGE, re.MULTILINE):
        found += [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()]
    return found


ROWS: Final = rows()


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_the_tables_are_complete() -> None:
    assert len(ROWS) > 30
    for row in ROWS:
        assert len(row) == 5, row
        assert all(row), row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_fault_is_proved(row: list[str]) -> None:
    tests = [name for name in quoted(row[4]) if "/" in name]
    for name in tests:
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
    known = (LOCAL if "campaign" in row[4] else set()) | (CLOUDS if "clouds" in row[4] else set())
    for name in quoted(row[4]):
        assert "/" in name or name in known, name
    assert tests or known, "nothing proves it"


def test_everything_that_the_campaigns_do_is_told() -> None:
    told = {name for row in ROWS for name in quoted(row[4])}
    assert (LOCAL | CLOUDS) - {"calm", "fine"} <= told
