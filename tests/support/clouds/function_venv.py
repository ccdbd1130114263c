"""An environment that holds only the function's requirements, as Google builds it; kept between runs
while the requirements stay."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

from tests.support.servers.relay import ROOT

_VENVS: Final = ROOT / ".state" / "gcp-function"


def python_for(source: Path) -> str:
    """The interpreter of an environment made for a source zip."""
    with zipfile.ZipFile(source) as archive:
        wanted = archive.read("requirements.txt")
    digest = hashlib.sha256(wanted + sys.version.encode()).hexdigest()[:16]
    venv = _VENVS / digest
    python = venv / "bin" / "python"
    stamp = venv / "installed"
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        (venv / "requirements.txt").write_bytes(wanted)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "-r", venv / "requirements.txt"], check=True)
        stamp.touch()
    return str(python)
