"""scripts/release.py: what it refuses, and the commands that it would run in a workflow."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from scripts import release


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder instead of the repository's, with a final version and its changes."""
    for name in ("functions", "dist", "docs"):
        (tmp_path / name).mkdir()
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## 3.1.0\n\nNew things.\n\n## 3.0.0\n\nOld things.\n"
    )
    for name in (*release.SCHEMAS, "README.md", "SECURITY.md", "LICENSE", "docs/install.md"):
        (tmp_path / name).write_text(f"{name}\n")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(release, "DIST", tmp_path / "dist")
    monkeypatch.setattr(release, "BILL", tmp_path / "bill.json")
    monkeypatch.setattr(release, "version", lambda: "3.1.0")
    for name in ("GITHUB_ACTIONS", "GITHUB_REF_NAME", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_version_of_the_code_is_one_to_release_and_its_changes_are_told() -> None:
    release.check()


@pytest.mark.usefixtures("folder")
def test_a_tag_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_REF_NAME", "v3.1.0")
    release.check()
    monkeypatch.setenv("GITHUB_REF_NAME", "v3.2.0")
    with pytest.raises(SystemExit, match=r"the tag is v3\.2\.0, .* says 3\.1\.0"):
        release.check()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("version", ["3.1.0.dev0", "3.1", "3.1.0rc1"])
def test_a_version_that_is_not_final_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(release, "version", lambda: version)
    with pytest.raises(SystemExit, match="is no version to release"):
        release.check()


@pytest.mark.parametrize("page", ["# Changelog\n", "## 3.1.0\n\n## 3.0.0\n\nOld.\n", "## 3.1.01\n\nOther.\n"])
def test_a_version_without_its_changes_is_refused(folder: Path, page: str) -> None:
    (folder / "CHANGELOG.md").write_text(page)
    with pytest.raises(SystemExit, match=r"CHANGELOG\.md: no section is about 3\.1\.0"):
        release.check()


@pytest.mark.usefixtures("folder")
def test_the_notes_are_those_of_the_version_alone() -> None:
    assert release.notes() == "New things.\n"


def test_the_assets_have_checksums_and_are_the_same_each_time(folder: Path) -> None:
    with pytest.raises(SystemExit, match="run make build first"):
        release.assets()
    (folder / "dist" / "smtp_relay-3.1.0-py3-none-any.whl").write_bytes(b"wheel")
    (folder / "bill.json").write_text("{}")
    release.assets()
    sums = (folder / "dist" / "SHA256SUMS").read_text()
    os.utime(folder / "docs" / "install.md", (1, 1))
    release.assets()
    assert (folder / "dist" / "SHA256SUMS").read_text() == sums
    listed = dict(reversed(line.split("  ")) for line in sums.splitlines())
    assert set(listed) == {path.name for path in (folder / "dist").iterdir()} - {"SHA256SUMS"}
    assert "smtp-relay-3.1.0.cdx.json" in listed
    assert listed["config.schema.json"] == hashlib.sha256(b"config.schema.json\n").hexdigest()
    with zipfile.ZipFile(folder / "dist" / "smtp-relay-3.1.0-docs.zip") as archive:
        assert archive.read("smtp-relay-3.1.0/docs/install.md") == b"docs/install.md\n"


def test_outside_a_workflow_nothing_is_published(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dist" / "a.whl").touch()
    release.publish()
    release.push()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert all(line.startswith("» not in a workflow, so this is not run: ") for line in said)
    assert said[0].endswith(f"--verify-tag --title=smtp-relay 3.1.0 --notes-file=- {folder}/dist/a.whl")
    assert [line.rpartition(" ")[2] for line in said[1:]] == [
        f"docker://ghcr.io/you/smtp-relay:{tag}" for tag in ("3.1.0", "3.1", "latest")
    ]


def test_a_workflow_is_told_the_digest_of_the_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "skopeo"
    program.write_text(
        '#!/bin/sh\necho "$@" >> "$0.log"\nfor each; do case $each in --digestfile=*)'
        " echo sha256:abc > ${each#--digestfile=};; esac; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_REPOSITORY", "Acme/Relay")
    monkeypatch.setenv("GITHUB_OUTPUT", str(folder / "output"))
    monkeypatch.setattr(release, "IMAGE", folder / "image.tar")
    with pytest.raises(SystemExit, match="run make image-multi first"):
        release.push()
    release.IMAGE.touch()
    release.push()
    assert (folder / "output").read_text() == "name=ghcr.io/acme/relay\ndigest=sha256:abc\n"
    assert (folder / "skopeo.log").read_text().count("docker://ghcr.io/acme/relay:") == 3


@pytest.mark.parametrize(
    ("code", "out", "err", "status"),
    [
        (0, "", "No known vulnerabilities found", None),
        (
            1,
            "Name  Version ID     Fix Versions\n----\nidna  3.6  PYSEC-1  3.7\n",
            "Found 1",
            "renew these packages",
        ),
        (1, "", "requests.exceptions.ConnectionError: no route", 2),
        (1, "", "ERROR:pip_audit._cli:idna: Dependency not found on PyPI", 2),
        (1, "", "", 2),
    ],
)
def test_the_audit_tells_a_vulnerability_from_an_index_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str, status: object
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(subprocess, "run", run)
    if status is None:
        release.audit()
    else:
        with pytest.raises(SystemExit) as ended:
            release.audit()
        assert str(status) in str(ended.value.code)
    assert "--strict" in asked[0]
    assert sum(word.endswith(".txt") for word in asked[0]) == 3
