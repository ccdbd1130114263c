"""A project of another team, with modules of our names, whose tests use the plugin."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

_SENDING: Final = '''
import smtplib

import pytest


@pytest.fixture
def send(mailbox):
    """The application: it sends a mail, with a login or without."""

    def run(subject, to="ann@example.com", text="Hello Ann", login=True, at=mailbox):
        with smtplib.SMTP(at.host, at.port) as client:
            if login:
                client.login(at.username, at.password)
            mail = f"From: Shop <shop@example.com>\\nTo: {to}\\nSubject: {subject}\\n\\n{text}\\n"
            client.sendmail("bounces@example.com", to, mail)

    return run
'''


class Project:
    """Its tests have the fixture `send`, and run in a process of their own, where warnings are errors."""

    def __init__(self, folder: Path, python: Path = Path(sys.executable)) -> None:
        self.folder = folder
        self._python = python
        for name in ("listener", "functions"):
            package = folder / name
            package.mkdir(parents=True)
            (package / "__init__.py").write_text(f'OWN = "the project\'s {name}"\n')
        self.write("conftest.py", _SENDING)

    def write(self, name: str, text: str) -> None:
        """Write a module of the project."""
        (self.folder / name).write_text(textwrap.dedent(text))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin to run all tests."""
        command = [str(self._python), "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**environ, "PYTHONPATH": str(self.folder), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, passed: int = 0, failed: int = 0) -> str:
        """The output of all tests, of which as many must pass and fail."""
        process = self.start(*arguments)
        output, _ = process.communicate()
        counts = [f"{failed} failed"] * bool(failed) + [f"{passed} passed"] * bool(passed)
        assert f"{', '.join(counts)} in " in output.splitlines()[-1], output
        return output
