"""Installs the function's packages from wheels for another platform than this machine's."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from functions.errors import ConfigError
from infra.bundle.runtime import RUNTIMES, Platform


def install(platform: Platform, wanted: Mapping[str, str], target: Path) -> None:
    """Install wheels for the platform into a folder, of the distributions in `wanted`: name → version and
    options, as pip reads them behind a name. With hashes pip takes these files only, and no other
    distribution. Raises ConfigError if pip finds none."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={platform.python}", f"--target={target}"]
    command += [f"--platform={tag}" for tag in platform.tags]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirements:
        requirements.writelines(f"{name}{version}\n" for name, version in wanted.items())
        requirements.flush()
        command += ["--requirement", requirements.name]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise _no_wheels(platform, done.stderr)


def _no_wheels(platform: Platform, said: str) -> ConfigError:
    """pip's error in one line."""
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    missing = [line for line in errors if line.startswith("No matching distribution")]
    reason = " ".join([*missing, *errors, said][0].split())
    if not missing or "Retrying (" in said:  # the index does not answer, or pip is missing
        return ConfigError(str(platform), f"pip cannot install the function's packages: {reason}")
    glibc = RUNTIMES[platform.python].glibc
    newer = [f"deploy for python {python}" for python, linux in RUNTIMES.items() if linux.glibc > glibc]
    own = "install a version that has one: name it in pyproject.toml, then `make lock`"
    return ConfigError(str(platform), f"no wheel loads there: {reason}", ", or ".join([*newer[:1], own]))
