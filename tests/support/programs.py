"""Programs that tests run: found, or the test skips and says which package is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from scripts.setup import MAILS, PERL_MODULES, perl_has
from tests.support.servers.relay import ROOT

PATH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

NODE_MODULES: Final = ROOT / ".state" / "node" / "node_modules"


def program(name: str, package: str) -> str:
    """The program's path. Skips the test when it is not installed."""
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is missing (Debian package {package}; `make test` installs it where root)")
    return found


def swaks_with_tls() -> str:
    """swaks's path. Skips the test when it or the Perl module that it speaks TLS with is not installed."""
    found = program("swaks", "swaks")
    for module, package in PERL_MODULES.items():
        if not perl_has(module):
            pytest.skip(f"{module} is missing (Debian package {package}; `make test` installs it where root)")
    return found


def run(
    command: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    seconds: float = 60,
) -> subprocess.CompletedProcess[bytes]:
    """Run to the end with its output captured. Raises AssertionError with it if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
    return done


def corpus() -> list[Path]:
    """The sample mails that CPython's own email tests use, and those of two other projects. Skips if they
    are not installed."""
    found = sorted(Path("/usr/lib").glob("python3.*/test/test_email/data/msg_*.txt"))
    if not found:
        pytest.skip("sample mails are missing (Debian package libpython3.11-testsuite)")
    return found + sorted(MAILS.glob("*/*"))
