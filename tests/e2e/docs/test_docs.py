"""The documentation: links resolve, configurations load, commands run, the reference is current."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from tests.support.servers.relay import ROOT


def script(name: str) -> ModuleType:
    """A module of scripts/, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


docs_check: Final = script("docs_check")
reference: Final = script("configuration_reference")
PAGES: Final = [str(path.relative_to(ROOT)) for path in docs_check.pages()]


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str) -> None:
    # In a process of its own, as `make docs-check` runs it, because pages start servers.
    command = [sys.executable, "scripts/docs_check.py", page]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_is_found_from_the_index() -> None:
    linked = {
        (ROOT / "docs" / target.partition("#")[0]).resolve()
        for _, target in docs_check.read(ROOT / "docs" / "README.md").links
    }
    written = {
        path.resolve()
        for folder in ("", "filters", "outputs")
        for path in (ROOT / "docs" / folder).glob("*.md")
    }
    assert written - linked == {ROOT / "docs" / "README.md"}


def test_the_configuration_reference_is_current() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run python scripts/configuration_reference.py"


def test_the_reference_names_every_key() -> None:
    from listener.cli.schema import schema

    page = reference.PAGE.read_text()
    absent = {key for key in keys_of(schema()) if f"`{key}`" not in page}
    assert absent == set()


def keys_of(part: Any) -> set[str]:
    """Every property of the schema."""
    found: set[str] = set()
    if isinstance(part, dict):
        properties = part.get("properties")
        found |= set(properties) if isinstance(properties, dict) else set()
        for value in part.values():
            found |= keys_of(value)
    elif isinstance(part, list):
        for item in part:
            found |= keys_of(item)
    return found


class TestTheCheckItself:
    """Each kind of fault is found."""

    @pytest.fixture
    def faults(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(docs_check, "ROOT", tmp_path)
        (tmp_path / "configs").mkdir()
        (tmp_path / "config.schema.json").write_text("{}")

        def of(text: str) -> list[str]:
            page = tmp_path / "page.md"
            page.write_text(text)
            monkeypatch.setenv("PYTHONPATH", str(ROOT))
            return list(docs_check.faults(page))

        return of

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[x](gone.md)", "no such file"),
            ("[x](#gone)", "no such heading"),
            ("# A `b` c\n[x](#a-b-d)", "no such heading"),
            ("```json\n{\n```", "cannot be read"),
            ("```sh\nfalse\ntrue\n```", "ended with 1"),
            ("<!-- docs-check: fails -->\n```sh\ntrue\n```", "ended with 0"),
            ("```\nmake it\n```", "looks like a command"),
            ("<!-- docs-check: skip -->\n```sh\nfalse\n```", "without a reason"),
        ],
    )
    def test_fault(self, faults: Any, text: str, words: str) -> None:
        (found,) = faults(text)
        assert words in found

    @pytest.mark.parametrize(
        "text",
        [
            "# A `b` c\n## A `b` c\n[x](#a-b-c) [y](#a-b-c-1) [z](page.md#a-b-c) [w](https://example.com/x#y)",
            '```jsonc\n"loggers": [], // part of an object\n```',
            "<!-- docs-check: file a.txt -->\n```text\nx\n```\n```sh\ngrep x a.txt\n```",
            "```\n250 OK\n```",
            "`[x](gone.md)`",
        ],
    )
    def test_no_fault(self, faults: Any, text: str) -> None:
        assert faults(text) == []
