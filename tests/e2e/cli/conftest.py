"""The command line as a user starts it: as a process, in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.net import PATIENCE
from tests.support.servers.relay import ROOT, Server

_VARIABLES = ("SMTP_", "LOG_LEVEL", "AWS_")


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, without settings of the relay."""
    own = {name: text for name, text in os.environ.items() if not name.startswith(_VARIABLES)}
    return {**own, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(more or {})}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "listener.cli.main", *arguments]


class Typed(Server):
    """A server started with these arguments; its port is `{port}` in them."""

    def __init__(self, folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self._arguments = arguments
        self._environ = dict(environ or {})

    def _filled(self, text: str) -> str:
        return text.replace("{port}", str(self.port))

    def command(self) -> list[str]:
        return command(*map(self._filled, self._arguments))

    def environment(self) -> Mapping[str, str]:
        return environment({name: self._filled(text) for name, text in self._environ.items()})


Serve = Callable[..., Typed]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Serve]:
    """Makes servers in the test's folder."""
    made: list[Typed] = []

    def make(*arguments: str, environ: Mapping[str, str] | None = None) -> Typed:
        made.append(Typed(tmp_path, *arguments, environ=environ))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None:
            one.stop()


@pytest.fixture
def relay(tmp_path: Path) -> Run:
    """Runs the program in the test's folder to its end."""

    def run(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env=environment(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return run
