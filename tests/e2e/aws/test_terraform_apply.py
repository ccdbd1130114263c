"""The AWS modules of Terraform, applied: the same mails as through the CDK app."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.bundle.aws import write
from infra.bundle.runtime import THIS_PYTHON, Platform
from tests.support.clouds.aws_flows import DeployedListener, Targets, until, variables_of
from tests.support.clouds.ministack import Ministack
from tests.support.infra.terraform_aws import Terraform

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("aws-terraform")]

NAME = "applied"

PROVIDER = """
provider "aws" {
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}
"""


def test_mails_through_applied_modules(aws: Ministack, tmp_path: Path) -> None:
    targets = Targets(aws)
    config = tmp_path / "relay.json"
    config.write_text(json.dumps(targets.config()))
    write(config, tmp_path / "build", Platform(THIS_PYTHON, arch="x86_64"), public=False)
    endpoints = {name: url for name, url in aws.environment.items() if name.startswith("AWS_ENDPOINT")}
    variables = {
        "build": str(tmp_path / "build"),
        "image": "registry.example.com/smtp-relay:1",
        "name": NAME,
        "clients": ["10.0.0.0/8"],
        # Features that the emulator refuses: Application Auto Scaling, metric math, saved queries.
        "autoscaling": False,
        "alarms": False,
        "queries": False,
        "ephemeral": True,
        "environment": endpoints,
    }
    terraform = Terraform(tmp_path, variables, aws.environment)
    (terraform.folder / "provider.tf").write_text(PROVIDER)
    outputs = terraform.apply()
    assert set(outputs) == {*("spool_bucket", "queue", "dead_letter_queue", "function", "listener_endpoint")}
    relay = DeployedListener(tmp_path / "listener", aws, variables_of(aws, NAME))
    dynamo = aws.client("dynamodb")
    try:
        relay.start()
        relay.send(targets.recipient)

        def finished() -> bool:
            found = targets.s3.list_objects_v2(Bucket=outputs["spool_bucket"], Prefix="spool/")
            left = [each for each in found.get("Contents", []) if each["Key"].endswith(".eml")]
            return bool(dynamo.scan(TableName=f"{NAME}-receipts")["Items"]) and not left

        until(finished, "the mail to be finished", aws)
        targets.check_one()
    finally:
        relay.kill()
    terraform.run("destroy", "-auto-approve", "-refresh=false")
    assert outputs["function"] not in {
        each["FunctionName"] for each in aws.client("lambda").list_functions()["Functions"]
    }
