"""The end of the command that makes the function's zip, if it cannot make one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from functions.errors import ConfigError
from infra.bundle.build import bundle
from infra.bundle.runtime import RUNTIMES, THIS_PYTHON, Platform
from tests.support.servers.relay import ROOT

EMPTY_CACHE = """
import importlib, sys
from pathlib import Path
from infra.bundle import build
module, cache = sys.argv.pop(1), sys.argv.pop(1)
build.bundle.__kwdefaults__["cache"] = Path(cache)
sys.exit(importlib.import_module(module).main())
"""
"""Runs a command without the packages that earlier bundles left."""


@pytest.mark.parametrize("command", [["infra.bundle.build"], ["infra.bundle.aws", "--out", "build"]])
def test_without_wheels_the_commands_end_with_one_line(tmp_path: Path, command: list[str]) -> None:
    module, *rest = command
    config = ROOT / "configs" / "mail2s3.jsonc"
    done = subprocess.run(
        [sys.executable, "-c", EMPTY_CACHE, module, str(tmp_path / "cache"), str(config), *rest],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"python{THIS_PYTHON} on arm64" in line
    assert "pydantic" in line
    assert not done.stdout


@pytest.mark.parametrize("there", [False, True])
def test_a_python_that_does_not_run_is_said_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """pyenv has a program for each version, also for those that are not switched on."""
    version = next(each for each in RUNTIMES if each != THIS_PYTHON)
    if there:
        program = tmp_path / f"python{version}"
        program.write_text("#!/bin/sh\nexit 127\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if there else str(tmp_path))
    config = ROOT / "configs" / "mail2s3.jsonc"
    with pytest.raises(ConfigError, match=f"python{version}: is not here"):
        bundle(config, Platform(version), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
