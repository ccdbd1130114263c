"""infra/terraform/aws without an account: valid examples, and plans against a mocked provider."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.infra.terraform_aws import FOLDER, Terraform

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("terraform-aws")]

EXAMPLES = sorted(path.name for path in (FOLDER / "examples").iterdir())


def test_each_use_has_an_example() -> None:
    assert EXAMPLES == ["mail-to-s3", "mail-to-sqs", "relay-through-ses"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_valid(tmp_path: Path, name: str) -> None:
    terraform = Terraform(tmp_path, {}, {}, root=f"examples/{name}")
    assert "Success!" in terraform.run("validate")


def test_plans_against_a_mocked_provider(tmp_path: Path) -> None:
    terraform = Terraform(tmp_path, {}, {})
    said = terraform.run("test")
    assert "0 failed" in said, said
    assert "7 passed" in said, said
