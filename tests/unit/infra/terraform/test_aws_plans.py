"""infra/terraform/aws without an account: valid examples, and plans against a mocked provider."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest

from infra.bundle import aws
from infra.bundle.runtime import Platform
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
    assert "8 passed" in said, said


MOCKED: Final = """
mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b"] }
  }
}
"""

FOUND: Final = {"vpc_id": "vpc-1", "balancer_subnet_ids": ["subnet-1"], "task_subnet_ids": ["subnet-2"]}
CERTIFICATE: Final = {"certificate_arn": "arn:aws:acm:eu-west-1:123456789012:certificate/0b5d3c1e-1111"}
ONE: Final = "secretsmanager:relay/tls"
REFUSED: Final = "expect_failures = [terraform_data.settings]"

TOGETHER: Final[dict[str, tuple[dict[str, Any], dict[str, Any], bool]]] = {
    "nothing_said": ({}, {}, True),
    "a_network": (FOUND, {}, True),
    "the_function_in_it": ({**FOUND, "function_subnet_ids": ["subnet-3"]}, {}, True),
    "a_certificate": (CERTIFICATE, {"cert": ONE}, True),
    "the_same_secret_as_key": (CERTIFICATE, {"cert": ONE, "key": ONE}, True),
    "the_function_in_no_network": ({"function_subnet_ids": ["subnet-3"]}, {}, False),
    "a_network_without_subnets": ({"vpc_id": "vpc-1"}, {}, False),
    "subnets_of_no_network": ({"balancer_subnet_ids": ["subnet-1"]}, {}, False),
    "a_certificate_for_no_secret": (CERTIFICATE, {}, False),
    "a_certificate_for_two_secrets": (CERTIFICATE, {"cert": ONE, "key": "secretsmanager:b"}, False),
}
"""Variables of the root, options of the configuration, and whether they go together."""


def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    """By a precondition of settings.tf, which says what to set."""
    archive = tmp_path / "made.zip"
    archive.write_bytes(b"zip")
    flow = {
        "filters": [{"type": "whitelist", "to": ["ada@example.com"]}],
        "outputs": [{"type": "aws", "storage": {"bucket": "inbound"}}],
    }
    runs = [MOCKED]
    for name, (variables, options, fits) in TOGETHER.items():
        config = tmp_path / f"{name}.json"
        config.write_text(json.dumps({"flows": {"in": flow}, "options": options}))
        with patch.object(aws, "bundle", return_value=archive):
            aws.write(config, tmp_path / name, Platform(arch="x86_64"))
        values = {"build": str(tmp_path / name), "image": "relay:1", **variables}
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
        expected = "" if fits else REFUSED
        runs.append(f'run "{name}" {{\ncommand = plan\nvariables {{\n{lines}\n}}\n{expected}\n}}\n')
    terraform = Terraform(tmp_path, {}, {})
    (terraform.folder / "tests" / "listener.tftest.hcl").write_text("\n".join(runs))
    said = terraform.run("test")
    assert f"{len(TOGETHER)} passed, 0 failed" in said, said
