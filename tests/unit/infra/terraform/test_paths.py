"""The state does not tell where a checkout lies: the path of the zip is relative on both clouds."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.infra.terraform import terraform_program
from tests.support.servers.relay import ROOT

ARGUMENTS: Final = {"aws": "archive", "gcp": "source_zip"}
"""The argument of the module `delivery` that names the zip, which its state then holds."""


def path_in_state(cloud: str, root: Path, build: str) -> str:
    """The path of the zip for a root module that lies in a folder, and a value of `build`."""
    folder = ROOT / "infra" / "terraform" / cloud
    call = re.search(rf"^  {ARGUMENTS[cloud]}\s+= (.*)$", (folder / "main.tf").read_text(), re.MULTILINE)
    assert call is not None
    paths = folder / "paths.tf"
    root.mkdir(parents=True, exist_ok=True)
    (root / "main.tf").write_text(
        'variable "build" {}\n'
        + (paths.read_text() if paths.exists() else "")
        + f'output "zip" {{\n  value = {call[1]}\n}}\n'
    )
    for command in (["init"], ["apply", "-auto-approve", f"-var=build={build}"]):
        done = subprocess.run(
            [terraform_program(), f"-chdir={root}", *command, "-input=false", "-no-color"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    found: str = json.loads((root / "terraform.tfstate").read_text())["outputs"]["zip"]["value"]
    return found


@pytest.mark.parametrize("cloud", ARGUMENTS)
def test_two_checkouts_give_the_same_path(tmp_path: Path, cloud: str) -> None:
    found = set()
    for checkout in (tmp_path / "home" / "ada" / "relay", tmp_path / "ci"):
        root = checkout / "infra" / "terraform" / cloud
        (checkout / "build").mkdir(parents=True)
        (checkout / "build" / "function.zip").touch()
        found.add(path_in_state(cloud, root, str(checkout / "build")))
        assert (root / found.copy().pop()).exists()
        found.add(path_in_state(cloud, root, "../../../build"))
    assert found == {"../../../build/function.zip"}


@pytest.mark.parametrize("cloud", ARGUMENTS)
@pytest.mark.parametrize(
    ("build", "path"),
    [
        (".", "./function.zip"),
        ("build", "build/function.zip"),
        ("./sub/../build/", "build/function.zip"),
        ("../root-2/build", "../root-2/build/function.zip"),
        ("../root", "./function.zip"),
        ("..", "../function.zip"),
    ],
)
def test_a_folder_anywhere(tmp_path: Path, cloud: str, build: str, path: str) -> None:
    assert path_in_state(cloud, tmp_path / "root", build) == path


@pytest.mark.parametrize("cloud", ARGUMENTS)
def test_no_resource_names_a_file_by_the_place_of_its_module(cloud: str) -> None:
    """`path.module` of a module that Terraform downloaded has a name that the next `init` changes; what reads
    a file's content keeps none."""
    for path in (ROOT / "infra" / "terraform" / cloud).rglob("*.tf"):
        text = path.read_text()
        named = len(re.findall(r"\bpath\.(?:module|cwd)\b", text))
        reads = re.findall(r"\b(?:file|filesha256|filebase64sha256|templatefile)\(\"\$\{path\.module\}", text)
        assert named == len(reads), path
