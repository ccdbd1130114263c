"""Compiles the function's code with the runtime's own version of Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from infra.bundle.runtime import THIS_PYTHON, Platform

_TASK: Final = "/var/task"  # where Lambda unpacks the zip

_COMPILE: Final = """
import importlib.util, pathlib, py_compile, sys
root, folder, task, level = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
for file in sorted((root / folder).rglob("*.py")):
    # A dataclass without a docstring makes one of its signature, which takes longer than to load it.
    documented = b"dataclass" in file.read_bytes()
    py_compile.compile(
        str(file),
        cfile=importlib.util.cache_from_source(str(file), optimization=""),
        dfile=f"{task}/{file.relative_to(root).as_posix()}",
        doraise=True,
        optimize=min(level, 1) if documented else level,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
"""


def compile_all(root: Path, folder: str, platform: Platform, *, ours: bool) -> None:
    """Make byte-code that Python loads without checking the source's date. Third parties' code loses its
    docstrings and assertions, which makes it a tenth smaller. Does nothing where no interpreter is."""
    program = interpreter(platform)
    if program is None:
        return
    subprocess.run(
        [program, "-I", "-c", _COMPILE, str(root), folder, _TASK, "0" if ours else "2"],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )


def interpreter(platform: Platform) -> str | None:
    """The program that compiles, None if this machine has none."""
    if platform.python == THIS_PYTHON:
        return sys.executable
    found = shutil.which(f"python{platform.python}")
    # pyenv has a program of that name for each version, also for inactive ones.
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        return None
    return found


def version(platform: Platform) -> str:
    """The exact version of the program that compiles, "" if there is none."""
    program = interpreter(platform)
    if program is None:
        return ""
    shown = subprocess.run([program, "-VV"], capture_output=True, text=True, check=True)
    return shown.stdout.strip()


def missing_bytecode(platform: Platform) -> str | None:
    """What it means that no program compiles, in one line; None if one does."""
    if interpreter(platform) is not None:
        return None
    return (
        f"python{platform.python} is not on this machine, so the function's zip has no byte-code: a cold "
        f"start takes about four times as long. Install it, or choose this machine's version: "
        f"-c python={THIS_PYTHON} (Terraform: --python {THIS_PYTHON})"
    )
