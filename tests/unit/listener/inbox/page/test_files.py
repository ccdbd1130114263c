"""The files of the page: what they may hold, and that a package brings them."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

from listener.inbox.page import files
from listener.inbox.page.files import POLICY, Page

FOLDER = Path(files.__file__).parent
ROOT = Path(__file__).resolve().parents[5]
TEXTS = {
    path.name: path.read_text()
    for path in FOLDER.iterdir()
    if path.suffix in {".css", ".html", ".js", ".svg"}
}
UNSAFE = (
    *("innerHTML", "outerHTML", "insertAdjacentHTML", "setHTML", "createContextualFragment", "DOMParser"),
    *("srcdoc", r"document\.write", r"\beval\b", "new Function"),
)
SCRIPTS = {name: text for name, text in TEXTS.items() if name.endswith(".js")}


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_reads_text_as_html_or_as_a_program(name: str) -> None:
    assert [one for one in UNSAFE if re.search(one, SCRIPTS[name])] == []


@pytest.mark.parametrize("name", TEXTS)
def test_no_file_names_another_server(name: str) -> None:
    assert set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[\w./]*", TEXTS[name])) <= {
        "http://www.w3.org/2000/svg"
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short(name: str) -> None:
    assert len(SCRIPTS[name].splitlines()) <= 350


def test_every_import_leads_to_a_file_and_every_file_is_used() -> None:
    named = {"early.js", "main.js"}
    for name, text in SCRIPTS.items():
        for each in re.findall(r'from "\./([^"]+)"', text):
            assert each in SCRIPTS, name
            named.add(each)
    assert named == set(SCRIPTS)
    for each in re.findall(r"\{page\}/([\w.]+)", TEXTS["index.html"]):
        assert each in TEXTS


def test_every_export_is_used_by_another_script() -> None:
    for name, text in SCRIPTS.items():
        for each in re.findall(r"^export (?:async )?(?:const|function|class) (\w+)", text, re.MULTILINE):
            others = "".join(other for one, other in SCRIPTS.items() if one != name)
            assert re.search(rf"\b{each}\b", others), f"{name}: {each}"


def test_the_policy_lets_no_inline_script_or_style_run() -> None:
    assert "unsafe" not in POLICY
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", TEXTS["index.html"])


def test_a_package_brings_every_file() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "listener"
    ]
    for name in TEXTS:
        assert any(fnmatch.fnmatch(f"inbox/page/{name}", glob) for glob in found), name


def test_the_version_changes_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Page().version
    assert Page().version == before
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text + ("/* */" if name == "base.css" else ""))
    monkeypatch.setattr(files, "__file__", str(tmp_path / "files.py"))
    assert Page().version != before


def test_the_height_of_a_row_is_the_same_for_script_and_style() -> None:
    scripted = re.search(r"const HEIGHT = (\d+)", TEXTS["list.js"])
    styled = re.search(r"\.row \{[^}]*height: (\d+)px", TEXTS["list.css"])
    assert scripted is not None
    assert styled is not None
    assert scripted[1] == styled[1]
