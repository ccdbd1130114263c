"""infra/terraform/gcp: formatted, known to Google's provider, and without references to missing parts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.support.infra.terraform import Module, Schema, read_module, schema_faults, terraform_program
from tests.support.servers.relay import ROOT

FOLDER: Final = ROOT / "infra" / "terraform" / "gcp"
MODULES: Final = sorted({path.parent for path in FOLDER.rglob("*.tf")})


def test_formatted() -> None:
    done = subprocess.run(
        [terraform_program(), "fmt", "-check", "-recursive", "-diff", FOLDER], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


SCHEMA: Final[Schema] = json.loads(Path(__file__).with_name("google-provider-6.50.json").read_text())
"""Google's provider, of each resource type its arguments and blocks, and whether they are required."""


def _arguments(*required: str, optional: tuple[str, ...] = ()) -> Schema:
    needed = {name: {"required": True, "block": None} for name in required}
    return needed | {name: {"required": False, "block": None} for name in optional}


OTHERS: Final[Schema] = {
    "time_sleep": _arguments(
        optional=("create_duration", "destroy_duration", "triggers")
    ),  # hashicorp/time 0.13
    "google_project_service_identity": _arguments("service", optional=("project",)),  # google-beta 6.50
}


def test_the_provider_knows_every_argument() -> None:
    found = [fault for path in sorted(FOLDER.rglob("*.tf")) for fault in schema_faults(path, SCHEMA | OTHERS)]
    assert found == []


@pytest.mark.parametrize(
    ("resource", "text", "fault"),
    [
        ("google_pubsub_thing", 'name = "x"', "unknown resource type"),
        ("google_pubsub_topic", 'name = "x"\n  naem = "y"', 'unknown "naem"'),
        ("google_pubsub_topic", "count = 2", 'missing "name"'),
        ("google_pubsub_topic", 'name = "x"\n  schema_settings {}', 'schema_settings: missing "schema"'),
        (
            "google_pubsub_topic",
            'name = "x"\n  schema_settings {\n    schema = "s"\n    count = 2\n  }',
            'schema_settings: unknown "count"',
        ),
        (
            "google_pubsub_topic",
            'name = "x"\n  dynamic "schema_settings" {\n    for_each = [1]\n    content {}\n  }',
            'schema_settings: missing "schema"',
        ),
        (
            "google_pubsub_topic",
            'name = "x"\n  dynamic "settings" {\n    for_each = [1]\n    content {}\n  }',
            'unknown "settings"',
        ),
    ],
)
def test_what_the_provider_does_not_know_is_found(
    tmp_path: Path, resource: str, text: str, fault: str
) -> None:
    path = tmp_path / "main.tf"
    path.write_text(f'resource "{resource}" "it" {{\n  {text}\n}}\n')
    (found,) = schema_faults(path, SCHEMA)
    assert found.startswith(f"main.tf: {resource}.it")
    assert found.endswith(fault)


def test_validate(tmp_path: Path) -> None:
    program = terraform_program()
    work = shutil.copytree(FOLDER, tmp_path / "gcp")
    done = subprocess.run(
        [program, f"-chdir={work}", "init", "-backend=false", "-input=false", "-no-color"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "Error" in line]
        pytest.skip(f"terraform provider of Google cannot be had, nothing was validated: {errors}")
    done = subprocess.run([program, f"-chdir={work}", "validate"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", MODULES, ids=lambda path: path.name)
def test_references(folder: Path) -> None:
    assert problems(read_module(folder)) == []


@pytest.mark.parametrize("folder", MODULES, ids=lambda path: path.name)
def test_every_variable_is_described_typed_and_used(folder: Path) -> None:
    module = read_module(folder)
    used = {reference.parts[1] for reference in module.references if reference.parts[0] == "var"}
    for name, body in module.variables.items():
        assert {"description", "type"} <= set(body), name
    assert set(module.variables) == used
    for name, body in module.outputs.items():
        assert "description" in body, name


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = var.nothing", "var.nothing"),
        ('x = "a-${local.nothing}-b"', "local.nothing"),
        ("x = google_pubsub_topic.nothing[0].id", "google_pubsub_topic.nothing"),
        ("x = [for each in var.list : data.google_project.nothing.number]", "data.google_project.nothing"),
        ("x = module.nothing.there", "module.nothing"),
        ('x = { (var.nothing) = "a" }', "var.nothing"),
        ('x = lookup(var.nothing["a"].b, "c")', "var.nothing"),
        ('x = "${join(",", [for k, v in var.list : "${k}=${local.nothing}"])}"', "local.nothing"),
    ],
)
def test_a_reference_to_nothing_is_found(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "main.tf").write_text(
        f'variable "list" {{}}\nresource "google_pubsub_topic" "it" {{\n  name = "x"\n  {text}\n}}\n'
    )
    found = problems(read_module(tmp_path))
    assert len(found) == 1
    assert problem in found[0]


def test_module_calls_are_held_to_their_module(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "main.tf").write_text('variable "needed" {}\noutput "there" { value = var.needed }\n')
    (tmp_path / "main.tf").write_text(
        'module "m" {\n  source = "./m"\n  extra = 1\n}\noutput "o" { value = module.m.gone }\n'
    )
    assert problems(read_module(tmp_path)) == [
        "module m: no variable extra",
        "module m: needs needed",
        "main.tf:output:o:value: module.m.gone",
    ]


def problems(module: Module) -> list[str]:
    """The module's references to missing parts."""
    called = {
        name: read_module((module.folder / body["source"].strip('"')).resolve())
        for name, body in module.modules.items()
    }
    found = []
    for name, body in module.modules.items():
        given = {key for key in body if not key.startswith("__")} - _OF_CALLS
        wanted = called[name].variables
        found += [f"module {name}: no variable {key}" for key in sorted(given - set(wanted))]
        needed = {key for key, variable in wanted.items() if "default" not in variable}
        found += [f"module {name}: needs {key}" for key in sorted(needed - given)]
    for reference in module.references:
        match reference.parts:
            case ("var", name, *_):
                fine = name in module.variables
            case ("local", name, *_):
                fine = name in module.locals
            case ("module", name):
                fine = name in called  # depends_on
            case ("module", name, output, *_):
                fine = name in called and output in called[name].outputs
            case ("data", kind, name, *_):
                fine = (kind, name) in module.data
            case (kind, name, *_) if kind.startswith(("google_", "time_")):
                fine = (kind, name) in module.resources
            case _:
                fine = False
        if not fine:
            found.append(f"{reference.where}: {'.'.join(reference.parts)}")
    return found


_OF_CALLS: Final = {"source", "version", "count", "for_each", "depends_on", "providers"}


def test_the_machines_set_up_is_given_what_it_names() -> None:
    """`templatefile` fails at the plan for a missing name, and reports no superfluous one."""
    folder = FOLDER / "modules" / "listener"
    template = (folder / "cloud-init.yaml.tftpl").read_text()
    call = (folder / "group.tf").read_text().partition("templatefile(")[2].partition("\n    })")[0]
    given = set(re.findall(r"^\s+(\w+)\s+=", call, re.MULTILINE))
    assert given == set(re.findall(r"\$\{(\w+)\}", template))
    rendered = yaml.safe_load(re.sub(r"\$\{(\w+)\}", r"<\1>", template))
    unit = next(file for file in rendered["write_files"] if file["path"].endswith(".service"))
    assert "docker run --rm --name <container> --env-file /etc/smtp-relay/environment" in unit["content"]
    assert rendered["runcmd"][-1] == "systemctl start smtp-relay.service"


def test_the_function_sees_whose_a_taken_name_is() -> None:
    """Without that, a second flow's object under the same name would count as stored."""
    resources = read_module(FOLDER / "modules" / "delivery").resources
    create, look = (resources["google_storage_bucket_iam_member", name] for name in ("targets", "taken"))
    assert (create.pop("role").strip('"'), look.pop("role").strip('"')) == (
        "roles/storage.objectCreator",
        "roles/storage.objectViewer",
    )
    assert create == look, "on the same names"
