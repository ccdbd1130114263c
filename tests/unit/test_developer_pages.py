"""The pages: decisions are numbered and dated, the names in pages and code exist, and all are short."""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
LATER_PAGES: Final = {
    "inbox.md": 1_300,
    "testcontainers.md": 400,
    "adr/0008-accounts.md": 1_350,
    "operate-aws.md": 900,
    "operate-gcp.md": 900,
    "filters/respond.md": 400,
    "filters/sending-policy.md": 720,
    "outputs/webhook.md": 1_100,
    "outputs/mailer-oauth.md": 790,
    "install.md": 450,
    "kubernetes.md": 700,
    "filters/http-filter.md": 100,
}
"""Pages of features that came after the others were cut to 26,000 words, and the words that each feature may
take, here and in the reference of its options."""
DECISIONS: Final = sorted((ROOT / "docs" / "adr").iterdir())
PAGES: Final = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md", *DECISIONS]

HEAD: Final = re.compile(
    r"# (?P<number>\d{4}): \S.*\n\nDate: (?P<date>\S+)\. Status: (accepted|superseded by \[\d{4}\]\(.+\))\."
)
NAMED: Final = re.compile(r"`((?:bench|docs|functions|infra|listener|scripts|tests)/[\w./-]*\.\w+)`")


def named_files(text: str) -> set[str]:
    """Files of the repository that a page names between backticks; NAME stands for any name."""
    return {name for name in NAMED.findall(text) if "NAME" not in name}


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_has_its_number_its_date_and_its_status(path: Path) -> None:
    head = HEAD.match(path.read_text(encoding="utf-8"))
    assert head is not None
    assert path.name.startswith(f"{head['number']}-")
    assert datetime.date.fromisoformat(head["date"])


def test_decisions_are_numbered_from_one_without_a_gap() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{n:04}" for n in range(1, len(DECISIONS) + 1)]


def test_the_index_lists_every_decision() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\(adr/(.+?)\)", index) == [path.name for path in DECISIONS]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    named = named_files(path.read_text(encoding="utf-8"))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_the_architecture_page_names_many_files() -> None:
    assert len(named_files((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))) > 50


@pytest.mark.parametrize("folder", ["bench", "functions", "infra", "listener", "scripts"])
def test_every_page_that_code_names_exists(folder: str) -> None:
    gone = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    }
    assert gone == set()


def test_all_pages_together_are_short() -> None:
    """Counted as `wc -w` does."""
    pages = {
        os.fspath(path.relative_to(ROOT / "docs")): len(path.read_text(encoding="utf-8").split())
        for path in (ROOT / "docs").rglob("*.md")
    }
    longest = sorted(pages, key=lambda name: -pages[name])[:5]
    most = 26_000 + sum(words for name, words in LATER_PAGES.items() if name in pages)
    assert sum(pages.values()) <= most, [f"{name}: {pages[name]}" for name in longest]
