"""Terraform with AWS's provider, from a mirror on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.servers.relay import ROOT

FOLDER: Final = ROOT / "infra" / "terraform" / "aws"

_MIRRORS: Final = ("/opt", "/usr/share/terraform", "/usr/local/share/terraform")


@cache
def mirror() -> Path | None:
    """The root of a filesystem mirror that holds the provider: `TF_PLUGIN_MIRROR`, else one found."""
    if named := os.environ.get("TF_PLUGIN_MIRROR"):
        return Path(named)
    homes = [*map(Path, _MIRRORS), Path.home() / ".terraform.d"]
    for home in homes:
        for found in home.glob("**/hashicorp/aws/*"):
            return found.parents[3]
    return None


class Terraform:
    """The AWS modules in a folder of this test's own; `variables` are those of `root`, a folder of them."""

    def __init__(
        self, folder: Path, variables: Mapping[str, Any], environment: Mapping[str, str], *, root: str = "."
    ) -> None:
        program = shutil.which("terraform")
        found = mirror()
        if program is None or found is None:
            pytest.skip("terraform provider hashicorp/aws is in no mirror here: set TF_PLUGIN_MIRROR")
        self._program = program
        self.folder = Path(shutil.copytree(FOLDER, folder / "terraform")) / root
        rc = folder / "terraform.rc"
        rc.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{found}" }}\n}}\n')
        self._env = {
            **os.environ,
            **environment,
            "TF_CLI_CONFIG_FILE": str(rc),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(variables))
        self.run("init", "-backend=false")

    def run(self, *arguments: str) -> str:
        """Its output. Raises AssertionError with it if it fails."""
        done = subprocess.run(
            [self._program, f"-chdir={self.folder}", arguments[0], "-no-color", *arguments[1:]],
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, f"terraform {arguments}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def apply(self) -> dict[str, str]:
        """Apply; the outputs."""
        self.run("apply", "-auto-approve", "-input=false")
        return {name: one["value"] for name, one in json.loads(self.run("output", "-json")).items()}
