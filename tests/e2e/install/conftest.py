"""One build of the wheel and the source distribution, and fresh environments that hold it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.servers.relay import ROOT

TOOLS: Final = ROOT / ".state" / "release" / "bin" / "python"
EPOCH: Final = "1700000000"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:  # the hook sees all items
            item.add_marker(pytest.mark.xdist_group("install"))


def clean(**more: str) -> dict[str, str]:
    """This process's environment without what steers Python and the relay."""
    steering = ("PYTHON", "SMTP_RELAY_", "VIRTUAL_ENV", "GITHUB_")
    return {name: value for name, value in os.environ.items() if not name.startswith(steering)} | more


class Environment:
    """A virtual environment without this project's own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        venv.create(home, with_pip=False, symlinks=True)
        self.python = home / "bin" / "python"
        self.command = home / "bin" / "smtp-relay"
        (self.packages,) = home.glob("lib/python*/site-packages")

    def pip(self, *arguments: str | Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--quiet", "--no-compile", *arguments], env=clean(), check=True)

    def take(self, *names: str) -> None:
        """Copy packages, which have the locked versions, out of the environment of the tests."""
        for name in names:
            for file in metadata.distribution(name).files or ():
                if ".." not in file.parts and file.suffix != ".pyc":
                    target = self.packages / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file.locate(), target)

    def run(self, *arguments: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [self.command, *arguments],
            cwd=cwd,
            env=clean(**environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @contextlib.contextmanager
    def serving(
        self, command: list[str | Path], cwd: Path, until: str, **environ: str
    ) -> Iterator[Callable[[str], str]]:
        """A server that has printed `until`. Gives what finds a pattern's group in its output."""
        output = cwd.parent / f"{cwd.name}.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=cwd, env=clean(**environ), stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

        def said(pattern: str) -> str:
            end = time.monotonic() + 60
            while True:
                text = output.read_text(errors="replace")
                if found := re.search(pattern, text):
                    return found[1]
                assert process.poll() is None, text
                assert time.monotonic() < end, text
                time.sleep(0.02)

        try:
            said(f"({until})")
            yield said
        finally:
            process.terminate()
            assert process.wait(30) == 0, output.read_text(errors="replace")
        assert "Traceback" not in output.read_text(errors="replace")


def install(home: Path, wheel: Path, extras: str) -> Environment:
    """A fresh environment with the wheel and what these extras need, in the locked versions."""
    made = Environment(home)
    made.take(*needed_by(wheel, extras.split(",")))
    # Without an index, pip fails if something is missing.
    made.pip("--no-index", f"{wheel}[{extras}]" if extras else wheel)
    return made


def needed_by(wheel: Path, extras: Iterable[str]) -> set[str]:
    """The packages that the wheel needs with these extras, and those that they need, as installed here."""
    (about,) = metadata.distributions(path=[str(wheel)])
    found: set[tuple[str, str]] = set()
    todo = [(text, extra) for text in about.requires or () for extra in extras]
    while todo:
        text, extra = todo.pop()
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for each in requirement.extras or {""}:
                one = (canonicalize_name(requirement.name), each)
                if one not in found:
                    found.add(one)
                    todo += [(text, each) for text in metadata.distribution(one[0]).requires or ()]
    return {name for name, _ in found}


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one build."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [TOOLS, ROOT / "scripts" / "distributions.py", folder],
        env=clean(SOURCE_DATE_EPOCH=EPOCH),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def archive(dist: Path) -> Path:
    (found,) = dist.glob("*.tar.gz")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """As a user installs it."""
    return install(tmp_path_factory.mktemp("installed") / "venv", wheel, "listener,inbox")


@pytest.fixture
def with_extra(wheel: Path, tmp_path: Path) -> Callable[[str], Environment]:
    """Makes an environment that holds the wheel and the packages of one extra only, "" for none."""
    return partial(install, tmp_path / "venv", wheel)
