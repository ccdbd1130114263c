"""docs/gcp.md names the roles that Terraform grants, and no others."""

from __future__ import annotations

import re

from tests.support.infra import terraform_alarms
from tests.support.infra.terraform import read_module
from tests.support.servers.relay import ROOT

MODULES = ROOT / "infra" / "terraform" / "gcp" / "modules"


def test_roles() -> None:
    granted = {
        body["role"]
        for module in ("spool", "delivery", "listener")
        for body in read_module(MODULES / module).resources.values()
        if "role" in body
    }
    page = (ROOT / "docs" / "gcp.md").read_text()
    table = page.partition("## Permissions")[2].partition("\n## ")[0]
    assert granted == set(re.findall(r"roles/[\w.]+", table))


def test_every_alert_is_described() -> None:
    page = (ROOT / "docs" / "gcp.md").read_text()
    table = page.partition("## Alerts")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("`")]
    named = {terraform_alarms.key(name) for cell in cells for name in re.findall(r"`([\w-]+)`", cell)}
    assert named == terraform_alarms.gcp()


def test_no_identity_is_owner_or_editor() -> None:
    for path in MODULES.rglob("*.tf"):
        assert not re.search(r"roles/(owner|editor|[\w.]*admin)\b", path.read_text(), re.IGNORECASE), path
