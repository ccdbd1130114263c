"""The output `queries` of infra/terraform/gcp, as Terraform itself evaluates it, which needs no provider."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

from scripts.terraform_tables import hcl2_text
from tests.support.infra.terraform import terraform_program
from tests.support.servers.relay import ROOT

_FOLDER: Final = ROOT / "infra" / "terraform" / "gcp"
_MODULES: Final = _FOLDER / "modules"

_ROOT: Final = """
variable "kind" {}
variable "project" { default = "my-project" }
module "delivery" {
  source = "./delivery"
  name   = "mx"
}
module "listener" {
  source = "./listener"
  count  = var.kind == "none" ? 0 : 1
  name   = "mx"
  kind   = var.kind
}
"""
_DELIVERY: Final = """
variable "name" {}
variable "oldest_minutes" { default = 30 }
locals { function = "%s" }
"""
_LISTENER: Final = """
variable "name" {}
variable "kind" {}
variable "config" { default = "{}" }
locals {
  grouped   = contains(["external", "internal"], var.kind)
  container = "%s"
}
"""


def queries(folder: Path, kind: str) -> dict[str, dict[str, str]]:
    """Filter and link by name, for a kind of listener, of a deployment `mx`."""
    program = terraform_program()
    made = {
        folder / "main.tf": _ROOT + (_FOLDER / "queries.tf").read_text() + _output(_FOLDER, "queries"),
        folder / "delivery" / "main.tf": _DELIVERY % _local("delivery", "main.tf", "function")
        + _module("delivery"),
        folder / "listener" / "main.tf": _LISTENER % _local("listener", "group.tf", "container")
        + _module("listener"),
    }
    for path, text in made.items():
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    for command in (["init"], ["apply", "-auto-approve", f"-var=kind={kind}"]):
        done = subprocess.run(
            [program, f"-chdir={folder}", *command, "-input=false", "-no-color"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    state: dict[str, Any] = json.loads((folder / "terraform.tfstate").read_text())
    found: dict[str, dict[str, str]] = state["outputs"]["queries"]["value"]
    return found


def _module(name: str) -> str:
    """The locals of a module's alerts, and its output `log`."""
    text = (_MODULES / name / "alerts.tf").read_text()
    block = text.partition("locals {")[2].partition("\n}\n")[0]
    return f"locals {{{block}\n}}\n" + _output(_MODULES / name, "log")


def _output(folder: Path, name: str) -> str:
    text = (folder / "outputs.tf").read_text()
    (found,) = re.findall(rf'^output "{name}" {{\n.*?^}}\n', text, re.MULTILINE | re.DOTALL)
    return f"\n{found}"


def _local(module: str, file: str, name: str) -> str:
    return str(hcl2_text(_MODULES / module / file)["locals"][0][name])
