"""The tables of inputs and outputs of Terraform modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import terraform_tables

VARIABLES = """
variable "size" {
  description = "How many | at most."
  type        = object({ min = number, max = number })
  default     = { min = 2, max = 10 }
}

variable "ports" {
  description = "By name."
  type        = map(object({ port = number, secure = optional(bool, false) }))
}

variable "kept" {
  description = "Kept."
  type        = list(string)
  default     = null
}
"""


def test_each_input_has_its_type_its_default_and_its_meaning(tmp_path: Path) -> None:
    (tmp_path / "variables.tf").write_text(VARIABLES)
    (tmp_path / "outputs.tf").write_text('output "address" {\n  description = "For SMTP."\n  value = 1\n}\n')
    assert terraform_tables.tables(tmp_path).splitlines() == [
        "input | type | default | meaning",
        "---|---|---|---",
        "`kept` | `list(string)` | `null` | Kept.",
        "`ports` | `map(object)` | required | By name.",
        '`size` | `object` | `{"min": 2, "max": 10}` | How many \\| at most.',
        "",
        "output | meaning",
        "---|---",
        "`address` | For SMTP.",
    ]


def test_a_page_that_is_out_of_date_is_named_and_then_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "infra" / "terraform" / "cloud"
    folder.mkdir(parents=True)
    (folder / "variables.tf").write_text(VARIABLES)
    (folder / "outputs.tf").write_text("")
    page = folder / "README.md"
    page.write_text("before\n<!-- terraform: begin -->\nold\n<!-- terraform: end -->\nafter\n")
    monkeypatch.setattr(terraform_tables, "ROOT", tmp_path)
    assert terraform_tables.main(["--check"]) == 1
    assert "infra/terraform/cloud/README.md is out of date" in capsys.readouterr().out
    assert "old" in page.read_text()
    assert terraform_tables.main([]) == 0
    assert "old" not in page.read_text()
    assert page.read_text().startswith("before\n")
    assert terraform_tables.main(["--check"]) == 0
