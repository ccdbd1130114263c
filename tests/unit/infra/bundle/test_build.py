"""The command that makes the function's zip: where it cannot make one, and where its Python is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.bundle import aws
from infra.bundle.bytecode import compile_all, missing_bytecode, version
from infra.bundle.deployment import read_deployment
from infra.bundle.runtime import DEFAULT_PYTHON, RUNTIMES, THIS_PYTHON, Platform
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
    assert f"python{DEFAULT_PYTHON} on arm64" in line
    assert "pydantic" in line
    assert not done.stdout


def test_a_deployment_has_the_same_runtime_whichever_python_makes_it() -> None:
    assert Platform().python == DEFAULT_PYTHON == "3.13"


@pytest.mark.parametrize("there", [False, True])
def test_without_its_python_the_zip_has_no_bytecode_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """pyenv has a program for each version, also for those that are not switched on."""
    other = next(each for each in RUNTIMES if each != THIS_PYTHON)
    if there:
        program = tmp_path / f"python{other}"
        program.write_text("#!/bin/sh\nexit 127\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if there else str(tmp_path))
    said = missing_bytecode(Platform(other))
    assert said is not None
    assert "\n" not in said
    assert f"python{other} is not on this machine" in said
    assert "cold start" in said
    assert f"-c python={THIS_PYTHON}" in said
    module = tmp_path / "tree" / "module.py"
    module.parent.mkdir()
    module.write_text("x = 1\n")
    compile_all(tmp_path / "tree", ".", Platform(other), ours=True)
    assert version(Platform(other)) == ""
    assert [path.name for path in module.parent.iterdir()] == ["module.py"]


def test_this_python_compiles_for_itself(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x = 1\n")
    compile_all(tmp_path, ".", Platform(THIS_PYTHON), ours=True)
    (made,) = (tmp_path / "__pycache__").iterdir()
    assert made.suffix == ".pyc"
    assert missing_bytecode(Platform(THIS_PYTHON)) is None
    assert version(Platform(THIS_PYTHON)).startswith(f"Python {THIS_PYTHON}.")


def test_the_command_warns_of_a_zip_without_bytecode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = next(each for each in RUNTIMES if each != THIS_PYTHON)
    config = ROOT / "configs" / "mail2s3.jsonc"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(aws, "write", lambda path, *_, **__: read_deployment(path))
    monkeypatch.setattr(sys, "argv", ["aws", str(config), "--out", str(tmp_path), "--python", other])
    assert aws.main() == 0
    assert f"warning: python{other} is not on this machine" in capsys.readouterr().err
