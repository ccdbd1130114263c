"""The image's labels come from the release's workflow or the commit, and its base images have digests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from functions import __version__
from scripts import image

ZERO: Final = "@sha256:" + "0" * 64


def test_labels_are_the_workflow_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("GITHUB_SHA", "a" * 40)
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")
    assert image.arguments_of_build() == {
        "VERSION": __version__,
        "REVISION": "a" * 40,
        "SOURCE": "https://git.example/owner/name",
        "CREATED": "2023-11-14T22:13:20Z",
        "SOURCE_DATE_EPOCH": "1700000000",
    }


def test_labels_are_the_commit_s_and_say_when_a_file_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SOURCE_DATE_EPOCH", "GITHUB_SHA", "GITHUB_SERVER_URL", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(image, "ROOT", tmp_path)
    for name in ("functions/__init__.py", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "functions/__init__.py").write_text('__version__ = "1.2"\n')
    (tmp_path / "pyproject.toml").write_text('[project]\n[project.urls]\nSource = "https://a.example/b"\n')
    before = image.arguments_of_build()
    assert (before["REVISION"], before["SOURCE"]) == ("", "https://a.example/b")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@a.example"]
    monkeypatch.setenv("GIT_COMMITTER_DATE", "1600000000 +0000")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    clean = image.arguments_of_build()
    assert (clean["VERSION"], clean["CREATED"]) == ("1.2", "2020-09-13T12:26:40Z")
    assert len(clean["REVISION"]) == 40
    (tmp_path / "functions/__init__.py").write_text('__version__ = "1.3"\n')
    assert image.arguments_of_build()["REVISION"] == clean["REVISION"] + "-dirty"
    (tmp_path / "functions/__init__.py").write_text('__version__ = "1.2"\n')
    (tmp_path / "notes.txt").write_text("not in the image")
    assert image.arguments_of_build()["REVISION"] == clean["REVISION"]


def test_stages_and_scratch_need_no_digest_and_every_other_base_does() -> None:
    text = (
        f"FROM --platform=$BUILDPLATFORM a:1{ZERO} AS build\nFROM build AS more\n"
        f"FROM scratch AS empty\nFROM b:2\nFROM --platform=$BUILDPLATFORM c:3\n"
    )
    assert image.unpinned(text) == ["FROM b:2", "FROM --platform=$BUILDPLATFORM c:3"]
    assert image.unpinned(f"FROM a:1{ZERO}\n") == []


def test_the_stage_that_runs_here_gets_this_machine_s_base_and_the_last_one_the_other_s() -> None:
    text = f"FROM --platform=$BUILDPLATFORM python:3{ZERO} AS build\nFROM python:3{ZERO}\n"
    (other,) = set(image.PROCESSORS) - {image.HERE}
    assert image.with_stand_ins(text, image.HERE) == f"FROM {image.BASE} AS build\nFROM {image.BASE}\n"
    expected = f"FROM {image.BASE}-for-{other} AS build\nFROM {image.BASE}-{other}\n"
    assert image.with_stand_ins(text, other) == expected


def test_a_release_is_refused_while_a_base_image_has_no_digest(tmp_path: Path) -> None:
    for name, text in {
        "scripts/image.py": Path(image.__file__).read_text(),
        "listener/Dockerfile": f"FROM a:1{ZERO} AS build\nFROM b:2\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    command = [sys.executable, tmp_path / "scripts/image.py", "--multi", "--release"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "» listener/Dockerfile: FROM b:2: no digest. Run `make lock` where a registry answers\n"
    )
