"""docs/aws.md agrees with the code."""

from __future__ import annotations

import re
from typing import Final

from infra.access.aws import rules
from infra.cdk.settings import PARTS
from tests.support.infra import terraform_alarms
from tests.support.servers.relay import ROOT

PAGE: Final = (ROOT / "docs" / "aws.md").read_text()
OPERATIONS: Final = (ROOT / "docs" / "operations.md").read_text()


def test_the_table_of_permissions_is_current() -> None:
    found = re.search(r"<!-- iam: begin -->\n(.*?)<!-- iam: end -->", PAGE, re.DOTALL)
    assert found is not None
    assert found[1] == rules.table(), "put in what `python -m infra.access.aws.rules` prints"


def test_every_context_and_part_is_described() -> None:
    source = (ROOT / "infra" / "cdk" / "settings.py").read_text()
    for name in re.findall(r'context\("(\w+)"\)', source):
        if name != "environment":  # for emulators
            assert f"`{name}`" in PAGE, name
    for part in PARTS:
        assert f"`{part}`" in PAGE, part


def test_every_alarm_is_described() -> None:
    source = (ROOT / "infra" / "cdk" / "parts" / "alarms.py").read_text()
    names = re.findall(r'Watched\(\s*"(\w+)"', source)
    assert len(names) == 16
    for name in names:
        assert f"| `{name}` |" in OPERATIONS, name


def test_the_list_of_alarms_is_that_of_the_deployments() -> None:
    """docs/operations.md, column by column; each row says what to do."""
    rows = [
        [cell.strip() for cell in line.split("|")]
        for line in OPERATIONS.partition("## What to watch")[2].partition("\n## ")[0].splitlines()
        if " | " in line
    ]
    assert rows[0] == ["alarm", "local", "split, AWS", "split, Google Cloud", "what to do"]
    named = [
        {terraform_alarms.key(cell.strip("`")) for row in rows[1:] if (cell := row[column])}
        for column in (2, 3)
    ]
    assert named == [terraform_alarms.aws().keys(), terraform_alarms.gcp()]
    assert all(row[4] for row in rows)
