"""The sources of alerts on Google Cloud: Terraform's filters against a listener's real log."""

from __future__ import annotations

import json
import re
import smtplib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from infra.bundle.gcp import listener_config
from infra.cdk.settings import Settings
from scripts.terraform_tables import hcl2_text
from tests.support.clouds.gcs_xml import XmlFront
from tests.support.infra import terraform_alarms
from tests.support.infra.terraform import terraform_program
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import ROOT, Relay

MODULE: Final = ROOT / "infra" / "terraform" / "gcp" / "modules" / "listener"

_TERM: Final = re.compile(r'jsonPayload\.(\w+)(=~|=)(\((?:"[^"]*"(?: OR )?)+\)|"[^"]*"|true)')


_AROUND: Final = """
variable "kind" {}
variable "config" {}
variable "name" { default = "mx" }
locals {
  grouped   = contains(["external", "internal"], var.kind)
  container = "mx-listener"
}
"""


def values(tmp_path: Path, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """The locals of alerts.tf as Terraform itself evaluates them, which needs no provider."""
    program = terraform_program()
    text = (MODULE / "alerts.tf").read_text()
    block = "locals {" + text.partition("locals {")[2].partition("\nresource ")[0]
    names = ("resource", "said", "logged", "matched", "counted", "certificate")
    outputs = [f'output "{name}" {{ value = local.{name} }}\n' for name in names]
    (tmp_path / "main.tf").write_text("\n".join([_AROUND, block, *outputs]))
    given = [f"-var=kind={kind}", f"-var=config={json.dumps(config)}"]
    for command in (["init"], ["apply", "-auto-approve", *given]):
        done = subprocess.run(
            [program, f"-chdir={tmp_path}", *command, "-input=false", "-no-color"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    state = json.loads((tmp_path / "terraform.tfstate").read_text())
    return {name: one["value"] for name, one in state["outputs"].items()}


def matches(terms: str, entry: dict[str, Any]) -> bool:
    """True if an entry's payload meets a filter; conditions on the entry's source are ignored."""
    found = _TERM.findall(terms)
    assert len(found) == terms.count("jsonPayload.") - terms.count('jsonPayload."')
    return all(_meets(entry.get(name), sign, wanted) for name, sign, wanted in found)


def _meets(value: object, sign: str, wanted: str) -> bool:
    if wanted == "true":
        return value is True
    texts = re.findall(r'"([^"]*)"', wanted)
    if sign == "=~":
        return re.search(texts[0], str(value)) is not None
    return value in texts


@pytest.mark.parametrize(
    ("kind", "place", "counted"),
    [
        ("external", 'log_id("cos_containers") AND jsonPayload."cos.googleapis.com/container_name"=', True),
        ("internal", 'resource.type="gce_instance"', True),
        ("sidecar", 'resource.type="cloud_run_revision" AND resource.labels.service_name="mx-app"', False),
        (
            "worker-pool",
            'resource.type="cloud_run_worker_pool" AND resource.labels.worker_pool_name="mx-listener"',
            True,
        ),
    ],
)
def test_each_kind_has_the_alerts_that_make_sense_there(
    tmp_path: Path, kind: str, place: str, counted: bool
) -> None:
    found = values(tmp_path, kind, {"options": {"cert": "gcp-secret:projects/p/secrets/s"}})
    assert place in found["said"]
    assert f'resource.type="{found["resource"]}"' in found["said"]
    assert found["counted"] is counted
    assert found["certificate"] is True


@pytest.mark.parametrize("config", [{}, {"options": None}, {"options": {"cert": None, "pfx": ""}}])
def test_without_a_certificate_there_is_no_alert_on_its_end(tmp_path: Path, config: dict[str, Any]) -> None:
    assert values(tmp_path, "internal", config)["certificate"] is False


def test_the_listener_logs_what_the_filters_ask_for(tmp_path: Path, new_relay: Callable[..., Relay]) -> None:
    from infra.cdk.parts import alarms

    found = values(tmp_path, "internal", {})

    def entries(relay: Relay, terms: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in relay.log().splitlines() if line.startswith("{")]
        return [one for one in lines if matches(f"{found['said']} AND {terms}", one)]

    def counts(relay: Relay) -> list[int]:
        return [len(entries(relay, found["logged"][name])) for name in ("mails", "not-stored")]

    good = new_relay(deployed(), secure=True).start()
    assert send(good) == 250
    assert counts(good) == [1, 0]
    wait_until(lambda: bool(entries(good, found["logged"]["alive"])), seconds=10, what="a sign of life")
    days = entries(good, 'jsonPayload.message="certificate"')[0]["days"]
    assert isinstance(days, float | int), "compared as a number"
    assert days > 14
    assert f"jsonPayload.days<{alarms.CERTIFICATE}" in found["matched"]["certificate"]

    denied = XmlFront("http://nobody.invalid")
    denied.fail = lambda key: 403
    denied.start()
    try:
        spool = {"url": "gs://spool/relay", "endpoint": denied.url, "timeout": 2000}
        bad = new_relay(deployed(spool=spool, delivery={"mode": "events"}), secure=True).start()
        assert send(bad) == 451
    finally:
        denied.stop()
    assert counts(bad) == [1, 1]


def deployed(**config: Any) -> dict[str, Any]:
    """A listener's configuration as deployed, with more frequent log lines about health."""
    made = listener_config(config)
    assert made["health"] == {"portNumber": 9090, "logInterval": 60_000}
    return made | {"health": {"portNumber": 0, "logInterval": 1000}}


def send(relay: Relay) -> int:
    """Send a mail; returns the code of the answer."""
    with smtplib.SMTP_SSL(HOST, relay.port) as client:
        try:
            client.sendmail("a@client.example", ["b@server.example"], b"Subject: x\r\n\r\nx\r\n")
        except smtplib.SMTPDataError as error:
            return error.smtp_code
    return 250


def test_the_figures_are_those_of_aws() -> None:
    """Another test compares Terraform and CDK on AWS."""
    from infra.cdk.parts import alarms  # it takes seconds, and starts a process

    aws = terraform_alarms.aws()
    written = terraform_alarms.gcp_policies("listener")
    assert set(written) == {"deferred", "healthy", "quiet", "certificate", "untrusted_proxy"}
    own = hcl2_text(MODULE / "alerts.tf")["locals"][0]
    assert own["deferred_percent"] == aws["deferred"].threshold == alarms.DEFERRED
    assert own["certificate_days"] == aws["certificate"].threshold == alarms.CERTIFICATE
    defaults = {
        name: one.get("default")
        for block in hcl2_text(MODULE.parents[1] / "variables.tf")["variable"]
        for name, one in block.items()
    }
    assert str(defaults["size"]).replace('"', "").replace("'", "") == f"{{min: {Settings.least}, max: 10}}"
    assert defaults["quiet_hours"] == Settings.quiet
    for name, policy in written.items():
        said = policy["display_name"].partition(": ")[2]
        for place, value in (
            ("${var.size.min}", "2"),
            ("${local.certificate_days}", "14"),
            ("${var.quiet_hours}", "24"),
        ):
            said = said.replace(place, value)
        same = aws[name.replace("_", "")]
        assert said == same.text.replace("${var.quiet_hours}", "24")
        (condition,) = policy["conditions"]
        if "condition_matched_log" in condition:
            continue
        threshold = condition["condition_threshold"][0]
        assert (threshold["comparison"] == "COMPARISON_GT") is same.above
        assert ("ACTIVE" in threshold.get("evaluation_missing_data", "")) is (same.missing == "breaching")
        if name == "quiet":
            continue  # AWS counts hours, each a period of its own
        period = threshold["aggregations"][0]["alignment_period"]
        assert period == f"{same.period or 300}s"
        # The first period and as long behind it.
        assert threshold["duration"] == ("300s" if same.periods == 2 else "0s")


def test_a_header_that_does_not_fit_raises_the_alert(tmp_path: Path) -> None:
    """In the words of listener/intake/refusals.py; `matches` reads the filter as Cloud Logging does."""
    terms = values(tmp_path, "external", {})["matched"]["untrusted-proxy"]
    source = (ROOT / "listener" / "intake" / "refusals.py").read_text()
    said = re.findall(r'"((?:no )?PROXY header from [^":%]+)', source)
    assert len(said) == 2
    assert all(matches(terms, {"message": message}) for message in said)
    assert not matches(terms, {"message": "client turned away"})
