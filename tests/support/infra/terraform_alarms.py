"""The alarms of infra/terraform as data, for comparison with those of CDK and the pages."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from scripts.terraform_tables import hcl2_text
from tests.support.servers.relay import ROOT

_FOLDER: Final = ROOT / "infra" / "terraform"
_OPERATORS: Final = {"GreaterThanThreshold": True, "LessThanThreshold": False}


class Alarm(NamedTuple):
    """One alarm on AWS; `metric` is None for an expression, `threshold` where the module computes it.
    `dimensions`: their names."""

    text: str
    namespace: str | None
    metric: str | None
    dimensions: frozenset[str]
    statistic: str | None
    threshold: float | None
    above: bool
    period: int | None
    periods: int
    missing: str


def aws() -> dict[str, Alarm]:
    """By name, in lower case and without hyphens."""
    found: dict[str, Alarm] = {}
    for module in ("delivery", "listener"):
        content = hcl2_text(_FOLDER / "aws" / "modules" / module / "alarms.tf")
        for block in content["resource"]:
            for body in block.get("aws_cloudwatch_metric_alarm", {}).values():
                if "for_each" in body:
                    found |= _each(body, content["locals"][0])
                else:
                    found[key(body["alarm_name"])] = _alarm(body)
    return found


def _each(body: dict[str, Any], several: dict[str, Any]) -> dict[str, Alarm]:
    """The alarms of a resource that takes them from `local.watched`, over `local.usual`."""
    assert "in local.watched : name => merge(local.usual, one) if var.alarms && " in body["for_each"]
    assert body["comparison_operator"] == (
        '${each.value.above ? "GreaterThanThreshold" : "LessThanThreshold"}'
    )
    made: dict[str, Alarm] = {}
    for name, one in several["watched"].items():
        values = several["usual"] | one
        filled = {
            argument: values[taken[1]]
            for argument, value in body.items()
            if (taken := re.fullmatch(r"\$\{each\.value\.(\w+)\}", str(value)))
        }
        operator = next(text for text, above in _OPERATORS.items() if above is values["above"])
        made[key(name)] = _alarm(filled | {"comparison_operator": operator})
    return made


def gcp() -> set[str]:
    """Names of alert policies, in lower case and without hyphens."""
    found: set[str] = set()
    for module in ("delivery", "listener"):
        content = hcl2_text(_FOLDER / "gcp" / "modules" / module / "alerts.tf")
        several = {name: one for block in content["locals"] for name, one in block.items()}
        for name, body in gcp_policies(module).items():
            found |= {key(each) for each in several[name]} if "for_each" in body else {key(name)}
    return found


def gcp_policies(module: str) -> dict[str, Any]:
    """The alert policies of a module as they stand in its file, by resource name."""
    content = hcl2_text(_FOLDER / "gcp" / "modules" / module / "alerts.tf")
    found: dict[str, Any] = {}
    for block in content["resource"]:
        found |= block.get("google_monitoring_alert_policy", {})
    return found


def key(name: str) -> str:
    """A name as it is compared."""
    return re.sub(r"^\$\{.*?\}-|[-_]", "", name).lower()


def _filled(text: str) -> str:
    """A text with the modules' defaults."""
    defaults = {
        name: value["default"]
        for block in hcl2_text(_FOLDER / "aws" / "modules" / "listener" / "variables.tf")["variable"]
        for name, value in block.items()
        if "default" in value
    }
    return re.sub(
        r"^\$\{var\.(\w+)\}$|\$\{var\.(\w+)\}", lambda found: str(defaults[found[1] or found[2]]), text
    )


def _alarm(body: dict[str, Any]) -> Alarm:
    metric = body.get("metric_name")
    threshold = body["threshold"]
    return Alarm(
        _filled(body["alarm_description"]),
        body.get("namespace"),
        None if metric is None else metric.partition("-$")[0],
        frozenset(body.get("dimensions") or ()),
        body.get("statistic"),
        threshold if isinstance(threshold, int) else None,
        _OPERATORS[body["comparison_operator"]],
        body.get("period"),
        int(_filled(str(body["evaluation_periods"]))),
        body["treat_missing_data"],
    )
