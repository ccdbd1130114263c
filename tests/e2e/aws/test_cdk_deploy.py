"""The real CDK app, deployed: mails sent to the real listener arrive everywhere, and the deployment can
be removed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.bundle.runtime import THIS_PYTHON
from tests.support.clouds.aws_flows import DeployedListener, Targets, until, variables_of
from tests.support.clouds.ministack import Ministack
from tests.support.infra.cdk import Cdk

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("aws-cdk")]

STACK = "Deployed"

REFUSED = "alarms,autoscaling,queries,rules"
"""Features that the emulator refuses: metric math, Application Auto Scaling, saved queries, rules between
security groups. The templates' tests check these."""


@pytest.fixture
def cdk_for(aws: Ministack, tmp_path: Path) -> Callable[..., Cdk]:
    """Makes the command line for a configuration."""

    def make(config: Any, **context: Any) -> Cdk:
        path = tmp_path / "relay.json"
        path.write_text(json.dumps(config))
        fixed = {
            "config": str(path),
            "image": "registry.example.com/smtp-relay:1",
            "arch": "x86_64",
            "python": THIS_PYTHON,  # the emulator runs functions under its own interpreter
            "name": STACK,
            "public": "false",
            "clients": "10.0.0.0/8",
            "environment": {
                name: url for name, url in aws.environment.items() if name.startswith("AWS_ENDPOINT")
            },
            "without": REFUSED,
        }
        return Cdk(aws, tmp_path, {**fixed, **context})

    return make


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Callable[..., DeployedListener]]:
    made: list[DeployedListener] = []

    def start(*arguments: Any) -> DeployedListener:
        made.append(DeployedListener(tmp_path / "listener", *arguments))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.kill()


def test_mails_through_a_deployed_stack(
    aws: Ministack, cdk_for: Callable[..., Cdk], listener: Callable[..., DeployedListener]
) -> None:
    targets = Targets(aws)
    cdk = cdk_for(targets.config())
    cdk.bootstrap()
    outputs = cdk.deploy()
    assert set(outputs) == {"SpoolBucket", "Queue", "DeadLetterQueue", "Function", "ListenerEndpoint"}
    bucket = outputs["SpoolBucket"]

    def spooled() -> list[str]:
        found = targets.s3.list_objects_v2(Bucket=bucket, Prefix="spool/").get("Contents", [])
        return [each["Key"] for each in found if each["Key"].endswith(".eml")]

    relay = listener(aws, variables_of(aws, STACK))
    relay.send(targets.recipient)
    until(lambda: bool(_receipts(aws)) and not spooled(), "the mail to be finished", aws)
    targets.check_one()
    assert "There were no differences" in cdk.diff()

    with pytest.raises(AssertionError, match="TerminationProtection is enabled"):
        cdk.destroy()
    assert "There were no differences" in cdk.diff(), "a refused deletion removes nothing"
    aws.client("cloudformation").update_termination_protection(
        StackName=STACK, EnableTerminationProtection=False
    )
    cdk.destroy()
    assert outputs["Function"] not in {
        each["FunctionName"] for each in aws.client("lambda").list_functions()["Functions"]
    }
    assert bucket in {each["Name"] for each in targets.s3.list_buckets()["Buckets"]}, "mail outlives it"


def _receipts(aws: Ministack) -> list[Any]:
    dynamo = aws.client("dynamodb")
    tables = [name for name in dynamo.list_tables()["TableNames"] if name.startswith(STACK)]
    return [item for table in tables for item in dynamo.scan(TableName=table)["Items"]]
