"""CONTRIBUTING.md: its filter and its output are made in a copy of the repository, and work."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

COPIED: Final = ("configs", "docs", "functions", "listener", "scripts", "tests/support")
SINGLE: Final = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "config.schema.json",
    "pyproject.toml",
    "tests/conftest.py",
)

FILE: Final = re.compile(
    r"^<!-- docs-check: file (?P<name>\S+) -->\n(?P<fence>`+)\w+\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
CHANGE: Final = re.compile(
    r"^```diff\n--- (?P<name>\S+)\n.*?@@\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL
)

CONFIG: Final = """\
{
  "flows": {
    "in": {
      "filters": [{ "type": "helo", "names": ["app.example"] }],
      "outputs": [{ "type": "udp", "host": "127.0.0.1", "port": 9999 }]
    }
  },
  "options": { "authOptional": true }
}
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with everything that the page shows, and schema and reference made again."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SINGLE:
        shutil.copy(ROOT / name, folder / name)
    for found in FILE.finditer(PAGE):
        path = folder / found["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), "the page would overwrite a file of the repository"
        path.write_text(found["text"], encoding="utf-8")
    for found in CHANGE.finditer(PAGE):
        change(folder / found["name"], found["lines"].splitlines())
    schema = run(folder, "-m", "listener.cli.main", "schema")
    (folder / "config.schema.json").write_text(schema, encoding="utf-8")
    run(folder, "scripts/configuration_reference.py")
    return folder


def change(path: Path, lines: list[str]) -> None:
    """Add the lines that a diff adds, below those that it leaves: these stand in the file once."""
    left = "".join(f"{line[1:]}\n" for line in lines if line.startswith(" "))
    added = "".join(f"{line[1:]}\n" for line in lines if line.startswith("+"))
    text = path.read_text(encoding="utf-8")
    assert text.count(left) == 1, f"{path} has not one place like\n{left}"
    path.write_text(text.replace(left, left + added), encoding="utf-8")


def run(folder: Path, *arguments: str) -> str:
    """Python's output, run in a folder; it succeeds, and imports the modules there."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_shows_two_of_everything() -> None:
    assert len(FILE.findall(PAGE)) == 6
    assert len(CHANGE.findall(PAGE)) == 6


def test_the_tests_that_it_shows_pass(copy: Path) -> None:
    said = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit")
    assert re.search(r"^5 passed", said, re.MULTILINE), said


def test_a_configuration_that_uses_them_is_good(copy: Path) -> None:
    (copy / "relay.jsonc").write_text(CONFIG, encoding="utf-8")
    said = run(copy, "-m", "listener.cli.main", "check", "relay.jsonc")
    assert said.endswith("relay.jsonc: good\n"), said


def test_their_keys_are_in_the_reference(copy: Path) -> None:
    reference = (copy / "docs" / "configuration.md").read_text(encoding="utf-8")
    for title, page, key in (
        ("Filter", "filters/helo.md", "names"),
        ("Output", "outputs/udp.md", "host"),
    ):
        head = rf"^## {title} \[`\w+`\]\({page}\)\n"
        (section,) = re.findall(head + "(.*?)^## ", reference, re.MULTILINE | re.DOTALL)
        assert f"\n`{key}`" in section


def test_their_pages_and_the_index_hold(copy: Path) -> None:
    run(copy, "scripts/docs_check.py", "docs/README.md", "docs/filters/helo.md", "docs/outputs/udp.md")


def test_what_it_shows_is_formatted_like_the_code(copy: Path) -> None:
    shown = [found["name"] for found in FILE.finditer(PAGE) if found["name"].endswith(".py")]
    run(copy, "-m", "ruff", "format", "--check", *shown)
    run(copy, "-m", "ruff", "check", *shown)
