"""infra/terraform/aws: formatted, valid, described; the build folder it reads."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from pathlib import Path
from string import Template as Placeholders
from unittest.mock import patch

import pytest

from infra.access.aws import rules
from infra.bundle import aws
from infra.bundle.deployment import read_deployment
from infra.bundle.runtime import Platform
from tests.support.infra.terraform import terraform_program
from tests.support.infra.terraform_aws import FOLDER, Terraform
from tests.support.servers.relay import ROOT

pytestmark = pytest.mark.xdist_group("terraform-aws")


def test_formatted() -> None:
    command = [terraform_program(), "fmt", "-check", "-recursive", "-diff", FOLDER]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_valid(tmp_path: Path) -> None:
    terraform = Terraform(tmp_path, {}, {})
    assert "Success!" in terraform.run("validate")


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.tf")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_variable_and_output_is_described(path: Path) -> None:
    for kind, name, body in re.findall(
        r'^(variable|output) "(\w+)" \{\n(.*?)^\}', path.read_text(), re.M | re.S
    ):
        assert re.search(r'^  description\s+= ".+"$', body, re.M), name
        if kind == "variable":
            assert re.search(r"^  type\s+= ", body, re.M), name


@pytest.fixture
def build(tmp_path: Path) -> Path:
    archive = tmp_path / "made.zip"
    archive.write_bytes(b"zip")
    with patch.object(aws, "bundle", return_value=archive):
        config = ROOT / "configs" / "mail2sqs.jsonc"
        aws.write(config, tmp_path / "build", Platform(arch="x86_64"))
    return tmp_path / "build"


def test_the_build_folder(build: Path) -> None:
    assert {path.name for path in build.iterdir()} == {
        *("function.zip", "certificate.zip", "deployment.json"),
        *("function.policy.json.tftpl", "listener.policy.json.tftpl"),
    }
    facts = json.loads((build / "deployment.json").read_text())
    deployment = read_deployment(ROOT / "configs" / "mail2sqs.jsonc")
    assert facts["ports"]["25"] == {"outside": 25, "inside": 10025}
    assert facts["receipts"] is facts["public"] is True
    assert (facts["architecture"], facts["concurrency"]) == ("x86_64", 50)
    assert facts["listener_config"] == deployment.listener_config


def test_policies_are_templates_of_terraform(build: Path) -> None:
    """The placeholders are those that the modules fill in."""
    place = {"partition": "aws", "region": "eu-west-1", "account": "123456789012"}
    here = {"bucket": "arn:aws:s3:::b", "queue": "arn:q", "table": "arn:t", "log_group": "arn:l", "key": "k"}
    for name in ("function", "listener"):
        text = (build / f"{name}.policy.json.tftpl").read_text()
        policy = json.loads(Placeholders(text).substitute(place | here))
        for each in policy["Statement"]:
            for action in each["Action"]:
                assert any(action in rule.actions for rule in rules.RULES), action
    statements = json.loads((build / "listener.policy.json.tftpl").read_text())["Statement"]
    assert [(each["Action"], each["Resource"]) for each in statements] == [
        (["s3:PutObject"], ["${bucket}/spool/*"])
    ]


def test_what_cdk_says_terraform_says() -> None:
    """The same numbers, in both."""
    text = "\n".join(path.read_text() for path in sorted(FOLDER.rglob("*.tf")))
    for said in (
        "message_retention_seconds  = 4 * 24 * 3600",
        "message_retention_seconds = 14 * 24 * 3600",
        "visibility_timeout_seconds = 6 * var.timeout",
        "maxReceiveCount     = 10",
        "deregistration_delay = 90",
        "stopTimeout            = 120",
        'schedule_expression = "rate(5 minutes)"',
        "retention_in_days = 30",
        "memory_size      = var.memory",
    ):
        assert said in text, said


def test_the_saved_queries_are_those_of_cdk() -> None:
    from infra.cdk.parts import queries  # it takes seconds, and starts a process

    found = re.findall(r"<<-EOT\n(.*?)\n *EOT", (FOLDER / "queries.tf").read_text(), re.DOTALL)
    assert [textwrap.dedent(each) for each in found] == [queries.ACCEPTED, queries.ONE]


def test_the_function_of_the_certificate_may_do_the_same_as_that_of_cdk() -> None:
    text = (FOLDER / "modules" / "certificate" / "main.tf").read_text()
    asked = {action for rule in (rules.EXPORT, rules.SAVE, rules.CERTIFICATE_LOGS) for action in rule.actions}
    named = set(re.findall(r'"((?:acm|secretsmanager|logs):\w+)"', text))
    assert named == asked
    assert "resources = [var.certificate_arn]" in text
    assert "resources = [local.secret]" in text


def test_the_function_gets_the_same_permissions_for_its_network() -> None:
    text = (FOLDER / "modules" / "delivery" / "main.tf").read_text()
    assert sorted(re.findall(r'"(ec2:\w+)"', text)) == sorted(rules.NETWORK.actions)
