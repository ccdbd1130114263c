"""What a new project would refuse of infra/terraform/gcp: docs/adr/0008-accounts.md has the sources."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.terraform_tables import hcl2_text
from tests.support.infra.terraform import read_module, terraform_program
from tests.support.infra.terraform_alarms import gcp_policies
from tests.support.servers.relay import ROOT

FOLDER: Final = ROOT / "infra" / "terraform" / "gcp"
MODULES: Final = FOLDER / "modules"
EXAMPLES: Final = sorted(path.parent for path in FOLDER.glob("examples/*/main.tf"))
SCHEMA: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("google-provider-6.50.json").read_text())


def resources(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return read_module(folder).resources


def blocks(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.tf")):
        yield from hcl2_text(path).get(kind, ())


def variables(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: body for block in blocks(folder, "variable") for name, body in block.items()}


def local_values() -> dict[str, Any]:
    return {name: value for block in blocks(FOLDER, "locals") for name, value in block.items()}


@pytest.mark.parametrize("module", ["delivery", "listener"])
def test_an_alert_on_a_metric_of_the_log_waits_until_the_metric_is_known(module: str) -> None:
    sleep = resources(MODULES / module)["time_sleep", "metrics"]
    assert int(sleep["create_duration"].strip('"').rstrip("s")) >= 600
    assert "google_logging_metric" in str(sleep["triggers"]), "a new metric is waited for, an old one not"
    waiting = 0
    for name, policy in gcp_policies(module).items():
        if "logging.googleapis.com/user/" in str(policy):
            assert "time_sleep.metrics" in str(policy.get("depends_on")), name
            waiting += 1
    assert waiting


@pytest.mark.parametrize("module", ["delivery", "listener"])
def test_an_alert_on_the_log_itself_has_the_limit_that_it_needs(module: str) -> None:
    matched = 0
    for name, policy in gcp_policies(module).items():
        if "condition_matched_log" in str(policy):
            (strategy,) = policy["alert_strategy"]
            assert re.fullmatch(r"\d+s", strategy["notification_rate_limit"][0]["period"]), name
            assert int(strategy["auto_close"].rstrip("s")) >= 1800, name
            matched += 1
    assert matched


def test_alerts_on_single_entries_need_no_metric() -> None:
    found = gcp_policies("delivery") | gcp_policies("listener")
    for name in ("entries", "certificate", "untrusted_proxy"):
        assert "condition_matched_log" in str(found[name]), name
    metrics = {name for kind, name in resources(MODULES / "delivery") if kind == "google_logging_metric"}
    assert metrics == {"sweeps"}


def test_no_alert_looks_back_further_than_it_may() -> None:
    """Aggregation.alignment_period: at most 90,000 s for alerts; missing data needs a duration of 60 s."""
    (quiet,) = (one for name, one in gcp_policies("listener").items() if name == "quiet")
    threshold = quiet["conditions"][0]["condition_threshold"][0]
    assert threshold["aggregations"][0]["alignment_period"] == "${3600 * var.quiet_hours}s"
    (bound,) = re.findall(r"quiet_hours <= (\d+)", str(variables(FOLDER)["quiet_hours"]["validation"]))
    assert 3600 * int(bound) <= 90_000
    for name, policy in gcp_policies("listener").items():
        for one in policy["conditions"][0].get("condition_threshold", ()):
            if "evaluation_missing_data" in one:
                assert int(one["duration"].rstrip("s")) >= 60, name


def test_an_account_of_its_own_builds_the_function_once_its_role_holds() -> None:
    found = resources(MODULES / "delivery")
    function = found["google_cloudfunctions2_function", "delivery"]
    assert "google_service_account.build.id" in str(function["build_config"])
    assert "time_sleep.build" in str(function["depends_on"])
    assert "google_project_iam_member.build" in str(found["time_sleep", "build"]["depends_on"])
    grant = found["google_project_iam_member", "build"]
    assert grant["role"].strip('"') == "roles/cloudbuild.builds.builder"
    assert "google_service_account.build" in str(grant["member"])


def test_every_grant_to_the_agent_of_pubsub_waits_for_the_agent() -> None:
    found = resources(MODULES / "delivery")
    assert ("google_project_service_identity", "pubsub") in found
    granted = [body for body in found.values() if "local.pubsub_agent" in str(body.get("member"))]
    assert len(granted) == 3
    assert all("google_project_service_identity.pubsub" in str(body["depends_on"]) for body in granted)


def test_a_network_without_private_google_access_is_refused_with_the_command_to_run() -> None:
    (data,) = blocks(MODULES / "network", "data")
    (check,) = data["google_compute_subnetwork"]["given"]["lifecycle"][0]["postcondition"]
    assert "private_ip_google_access" in check["condition"]
    command = "gcloud compute networks subnets update .* --region=.* --enable-private-ip-google-access"
    assert re.search(command, check["error_message"])
    own = resources(MODULES / "network")["google_compute_subnetwork", "this"]
    assert str(own["private_ip_google_access"]).lower() == "true"


def test_machines_are_in_the_network_that_was_checked() -> None:
    call = read_module(FOLDER).modules["listener"]
    assert "module.network[*].network" in call["network"]
    assert "module.network[*].subnetwork" in call["subnetwork"]
    assert variables(FOLDER)["network"]["default"] in (None, "null")


def test_cloud_nat_follows_what_the_filters_ask() -> None:
    local = local_values()
    assert "local.deployment.nat" in local["nat"]
    assert "var.nat" in resources(MODULES / "network")["google_compute_router_nat", "this"]["count"]


@pytest.mark.parametrize(
    ("given", "egress"),
    [
        ({}, None),
        ({"connector": "c"}, "PRIVATE_RANGES_ONLY"),
        ({"connector": "c", "all_traffic": "true"}, "ALL_TRAFFIC"),
    ],
)
def test_the_function_reaches_a_private_smarthost_through_a_connector(
    tmp_path: Path, given: dict[str, str], egress: str | None
) -> None:
    function = resources(MODULES / "delivery")["google_cloudfunctions2_function", "delivery"]
    (service,) = function["service_config"]
    assert service["vpc_connector"] == "${var.connector}"
    chosen = re.search(
        r"^ +vpc_connector_egress_settings += (.*)$",
        (MODULES / "delivery" / "main.tf").read_text(),
        re.MULTILINE,
    )
    assert chosen is not None
    (tmp_path / "main.tf").write_text(
        'variable "connector" { default = null }\nvariable "all_traffic" { default = false }\n'
        f'output "egress" {{ value = {chosen[1]} }}\n'
    )
    command = [terraform_program(), f"-chdir={tmp_path}", "apply", "-auto-approve", "-input=false"]
    options = [f"-var={name}={value}" for name, value in given.items()]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = json.loads((tmp_path / "terraform.tfstate").read_text())["outputs"]
    assert outputs.get("egress", {}).get("value") == egress
    (check,) = function["lifecycle"][0]["precondition"]
    assert "var.all_traffic" in check["condition"]
    assert "function_connector" in check["error_message"]


def test_an_external_listener_needs_a_configuration_that_was_checked_for_strangers() -> None:
    account = resources(MODULES / "listener")["google_service_account", "listener"]
    (check,) = account["lifecycle"][0]["precondition"]
    assert "var.public" in check["condition"]
    assert "--public true" in check["error_message"]
    assert "local.deployment.public" in read_module(FOLDER).modules["listener"]["public"]


def test_every_setting_of_a_module_can_be_made_at_the_root() -> None:
    calls = read_module(FOLDER).modules
    for name, call in calls.items():
        kept = {"oldest_minutes"}  # the alert has the same text on both clouds
        assert set(variables(MODULES / name)) - kept <= set(call), name
    for setting in ("runtime", "machine_type", "machine_image", "size", "max_instances", "kms_key", "labels"):
        assert setting in variables(FOLDER), setting
    assert "local.deployment.max_instances" in calls["delivery"]["max_instances"]
    assert "local.deployment.threads" in calls["delivery"]["threads"]


def test_versions_do_not_depend_on_the_machine_that_deploys() -> None:
    found = variables(FOLDER)
    assert found["runtime"]["default"] == "python313"
    assert re.fullmatch(r"projects/cos-cloud/.*/cos-\d+-lts", found["machine_image"]["default"])


def test_the_apis_that_terraform_itself_calls_are_enabled_too() -> None:
    local = local_values()
    assert {"cloudresourcemanager", "iam", "pubsub", "logging", "storage"} <= set(local["apis"])
    service = resources(FOLDER)["google_project_service", "apis"]
    assert str(service["disable_on_destroy"]).lower() == "false"
    assert variables(FOLDER)["enable_apis"]["default"] is False
    for name in ("spool", "delivery", "network"):
        assert "time_sleep.apis" in str(read_module(FOLDER).modules[name]["depends_on"]), name


def test_only_examples_have_a_provider_so_the_root_may_be_counted_and_depend() -> None:
    assert [path.name for path in EXAMPLES] == ["function", "internal", "mx", "sidecar"]
    for folder in (FOLDER, *MODULES.iterdir()):
        assert not list(blocks(folder, "provider")), folder
    for folder in EXAMPLES:
        (provider,) = blocks(folder, "provider")
        assert "google" in provider, folder
        assert read_module(folder).modules["relay"]["source"].strip('"') == "../.."


@pytest.mark.parametrize("module", ["spool", "delivery", "listener", "network"])
def test_everything_that_takes_labels_has_the_deployments(module: str) -> None:
    for (kind, name), body in resources(MODULES / module).items():
        for argument in {"labels", "user_labels"} & set(SCHEMA.get(kind, ())):
            assert "var.labels" in str(body.get(argument)), f"{kind}.{name}"


def test_alerts_that_got_another_address_are_moved() -> None:
    moves = {one["from"]: one["to"] for one in blocks(MODULES / "delivery", "moved")}
    text = json.dumps(moves)
    for key in ("oldest", "dead"):
        assert f'gauges[\\"{key}\\"]' in text
        assert f'entries[\\"{key}\\"]' in text


def test_the_tables_of_inputs_and_outputs_are_current() -> None:
    script = ROOT / "scripts" / "terraform_tables.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (FOLDER / "README.md").read_text()
    for name in variables(FOLDER):
        assert f"\n`{name}` | " in page, name
