"""Events that no rule of a bus matches are lost, so the stack archives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from functions.aws.output.event_bus import SOURCE
from tests.support.infra.template import IMAGE, Template, config_file, synthesize

BUS: Final = "arn:aws:events:eu-west-1:123456789012:event-bus/team/mail"
TOPIC: Final = "arn:aws:sns:eu-west-1:123456789012:mail"


def _config(*topics: str) -> dict[str, Any]:
    outputs = [{"type": "aws", "pubsub": {"topic": topic}} for topic in topics]
    filters = [{"type": "whitelist", "to": ["glob:*@example.com"]}]
    return {"flows": {"in": {"filters": filters, "outputs": outputs}}}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    config = config_file(tmp_path_factory.mktemp("buses"), _config(TOPIC, BUS))
    return synthesize({"config": config, "image": IMAGE})


def test_a_bus_of_the_stacks_account_and_region_has_an_archive(template: Template) -> None:
    found = template.one("Events::Archive")
    assert found["SourceArn"] == BUS
    assert found["EventPattern"] == {"source": [SOURCE]}
    assert found["RetentionDays"] == 14
    (archive,) = (one for one in template.resources.values() if one["Type"] == "AWS::Events::Archive")
    assert template.value["Conditions"][archive["Condition"]] == {
        "Fn::And": [
            {"Fn::Equals": [{"Ref": "AWS::Region"}, "eu-west-1"]},
            {"Fn::Equals": [{"Ref": "AWS::AccountId"}, "123456789012"]},
        ]
    }


@pytest.mark.parametrize(("action", "resource"), [("sns:Publish", TOPIC), ("events:PutEvents", BUS)])
def test_the_function_may_publish_to_each_and_no_other(
    template: Template, action: str, resource: str
) -> None:
    found = [one["Resource"] for one in template.statements("DeliveryRole") if action in one["Action"]]
    assert found in ([resource], [[resource]])


def test_without_a_bus_there_is_none(tmp_path: Path) -> None:
    made = synthesize({"config": config_file(tmp_path, _config(TOPIC)), "image": IMAGE})
    assert not made.of("Events::Archive")
