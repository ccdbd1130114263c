"""GitHub's workflows: each step is a target of the Makefile, every action is a commit, rights are few."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parents[3]
FOLDER: Final = ROOT / ".github" / "workflows"
WORKFLOWS: Final = sorted(FOLDER.iterdir())
TOOLS: Final = ROOT / ".state" / "release" / "bin"
ACTION: Final = re.compile(
    r"uses: (?P<name>[\w-]+/[\w/.-]+)@(?P<commit>[0-9a-f]{40}) # (?P<version>v\d+\.\d+\.\d+)\n"
)

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def read(path: Path) -> dict[Any, Any]:
    made = yaml.safe_load(path.read_text())
    assert isinstance(made, dict)
    return made


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(path)["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job["steps"]]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_there_are_workflows_for_changes_for_releases_and_for_every_week() -> None:
    # YAML 1.1 reads the key `on` as true.
    events = {path.stem: set(read(path)[True]) for path in WORKFLOWS}
    assert events["test"] == {"push", "pull_request"}
    assert events["release"] == {"push"}
    assert events["rebuild"] == {"schedule", "workflow_dispatch"}
    assert read(FOLDER / "release.yml")[True]["push"] == {"tags": ["v*"]}


@each_workflow
def test_every_command_is_a_target_of_the_makefile(path: Path) -> None:
    commands = [step["run"] for step in steps(path) if "run" in step]
    assert commands
    for command in commands:
        found = re.fullmatch(r"make ([a-z0-9-]+)(?: [A-Z]+=\w+)*", command)
        assert found is not None, command
        assert found[1] in targets(), command


@each_workflow
def test_every_action_is_a_commit_and_names_its_version(path: Path) -> None:
    text = path.read_text()
    assert len(ACTION.findall(text)) == text.count("uses:")


def test_an_action_has_one_commit_everywhere() -> None:
    found = {match.groups() for path in WORKFLOWS for match in ACTION.finditer(path.read_text())}
    names = [name for name, _, _ in found]
    assert len(names) == len(set(names))


@each_workflow
def test_a_workflow_reads_and_a_job_says_what_else_it_needs(path: Path) -> None:
    assert read(path)["permissions"] == {"contents": "read"}
    for name, job in jobs(path).items():
        writes = {right for right, level in job.get("permissions", {}).items() if level == "write"}
        assert writes == RIGHTS.get((path.stem, name), set()), name


RIGHTS: Final = {
    ("release", "build"): {"id-token", "attestations"},
    ("release", "image"): {"packages", "id-token", "attestations"},
    ("release", "pypi"): {"id-token"},
    ("release", "github"): {"contents"},
}


@each_workflow
def test_every_job_ends_and_no_workflow_overtakes_itself(path: Path) -> None:
    assert set(read(path)["concurrency"]) == {"group", "cancel-in-progress"}
    for job in jobs(path).values():
        assert 0 < job["timeout-minutes"] <= 60
        assert not job["runs-on"].endswith("-latest")


@each_workflow
def test_no_checkout_leaves_its_token_behind(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_what_publishes_waits_for_the_tests_and_for_the_owner_s_word() -> None:
    found = jobs(FOLDER / "release.yml")
    for name in ("image", "pypi", "github"):
        assert found[name]["if"] == "${{ vars.PUBLISH == 'true' }}"
        needed, todo = set(), [name]
        while todo:
            needs = found[todo.pop()].get("needs", [])
            todo += [needs] if isinstance(needs, str) else needs
            needed |= set(todo)
        assert "check" in needed
    commands = [step.get("run") for step in found["check"]["steps"]]
    assert commands[1:] == ["make release-check", "make audit", "make test"]


def test_the_weekly_gate_fails_for_a_serious_fault_that_has_a_correction() -> None:
    (gate,) = (one for one in steps(FOLDER / "rebuild.yml") if "scan-action" in one.get("uses", ""))
    assert gate["with"]["fail-build"] is True
    assert gate["with"]["severity-cutoff"] == "high"


def test_a_container_has_its_digest() -> None:
    images = [
        job["container"]["image"] for path in WORKFLOWS for job in jobs(path).values() if "container" in job
    ]
    assert images
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    return tmp_path / ".github"


def lint(folder: Path) -> int:
    command = [TOOLS / "zizmor", "--offline", "--no-progress", "--quiet", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_the_linter_finds_nothing(copy: Path) -> None:
    assert lint(copy) == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pull_request:", "pull_request_target:"),
        ("run: make test", "run: echo ${{ github.head_ref }}"),
        ("persist-credentials: false", "fetch-depth: 0"),
        ("@9c091bb21b7c1c1d1991bb908d89e4e9dddfe3e0", "@v7"),
    ],
)
def test_the_linter_finds_what_gives_strangers_rights(copy: Path, old: str, new: str) -> None:
    path = copy / "workflows" / "test.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert lint(copy) != 0


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", [f"workflows/{path.name}" for path in WORKFLOWS]),
        ("github-issue-forms", ["ISSUE_TEMPLATE/fault.yml", "ISSUE_TEMPLATE/wish.yml"]),
        ("github-issue-config", ["ISSUE_TEMPLATE/config.yml"]),
        ("dependabot", ["dependabot.yml"]),
    ],
)
def test_files_for_github_have_the_form_that_github_reads(schema: str, files: list[str]) -> None:
    command = [TOOLS / "check-jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run(
        [*command, *(ROOT / ".github" / name for name in files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_form_for_faults_asks_for_the_version_and_the_report() -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "fault.yml").read_text())
    needed = {one["id"] for one in form["body"] if one.get("validations", {}).get("required")}
    assert {"version", "check", "happened"} <= needed
    assert "smtp-relay check --json" in str(form)
    assert "smtp-relay --version" in str(form)
