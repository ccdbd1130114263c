"""The CDK command line against a local AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clouds.ministack import ACCOUNT, REGION, Ministack
from tests.support.programs import NODE_MODULES
from tests.support.servers.relay import ROOT

SILENT: Final = {
    "CDK_DISABLE_VERSION_CHECK": "1",
    "CDK_DISABLE_CLI_TELEMETRY": "1",
    # The node of the machine is used as it is.
    "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
    "JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION": "1",
    "NODE_NO_WARNINGS": "1",
}


class Cdk:
    """Runs `cdk` on the real app; what it synthesizes is in `folder`."""

    def __init__(self, aws: Ministack, folder: Path, context: Mapping[str, Any]) -> None:
        self.folder = folder
        self._program = NODE_MODULES / ".bin" / "cdk"
        if not self._program.exists():
            pytest.skip("cdk is missing (npm's aws-cdk; `make test` installs it)")
        self._context = context
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._env = {**os.environ, **aws.environment, **SILENT, "PATH": path, "HOME": str(folder)}

    def bootstrap(self) -> str:
        """Prepare the account."""
        return self._run("bootstrap", f"aws://{ACCOUNT}/{REGION}")

    def deploy(self) -> dict[str, str]:
        """Synthesize and deploy; the stack's outputs."""
        outputs = self.folder / "outputs.json"
        self._run(
            *("deploy", "--require-approval", "never", "--method", "direct"),
            *("--outputs-file", str(outputs), *self._app()),
        )
        (found,) = json.loads(outputs.read_text()).values()
        return dict(found)

    def diff(self) -> str:
        """Synthesize again and compare with the deployment. Raises if they differ."""
        return self._run("diff", "--fail", *self._app())

    def destroy(self) -> str:
        """Destroy the deployment."""
        return self._run("destroy", "--force", "--app", str(self.folder / "cdk.out"))

    def _app(self) -> list[str]:
        values = [f"--context={name}={_text(value)}" for name, value in self._context.items()]
        return ["--output", str(self.folder / "cdk.out"), *values]

    def _run(self, *arguments: str) -> str:
        """Its output. Raises AssertionError with it if it fails."""
        done = subprocess.run(
            [str(self._program), *arguments],
            cwd=ROOT,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        text = done.stdout + done.stderr
        assert done.returncode == 0, f"cdk {arguments[0]}: {done.returncode}\n{text[-6000:]}"
        return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
