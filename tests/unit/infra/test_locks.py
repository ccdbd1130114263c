"""The locks: they fit pyproject.toml, every package has hashes, and nothing else reaches a deployable."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from functions.config import DeliveryConfig
from functions.errors import ConfigError
from infra.bundle import gcp
from infra.bundle.build import packages
from infra.bundle.lock import read_lock, with_dependencies
from infra.bundle.runtime import RUNTIMES, Platform
from infra.bundle.source import delivery_part, locked, read_config
from infra.bundle.wheels import install
from scripts import lock as lock_script
from scripts.image import BASE, DIGEST, unpinned, with_stand_ins
from tests.support.servers.relay import ROOT

LOCKS: Final = sorted((ROOT / "locks").glob("*.txt"))
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS: Final = [f"3.{minor}" for minor in range(11, 15)]
IMAGE: Final = BASE.removeprefix("docker.io/library/")
ZERO: Final = "sha256:" + "0" * 64


def asked_for(extras: tuple[str, ...]) -> list[Requirement]:
    """The requirements of pyproject.toml: its dependencies and those of the extras."""
    optional = PROJECT["project"]["optional-dependencies"]
    found = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    for extra in extras:
        for requirement in map(Requirement, optional[extra]):
            if requirement.name == PROJECT["project"]["name"]:
                found += asked_for(tuple(sorted(requirement.extras)))
            else:
                found.append(requirement)
    return found


def test_every_deployable_has_its_lock_and_no_lock_is_left_over() -> None:
    assert {path.stem for path in LOCKS} == {*lock_script.DEPLOYABLES, "build"}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_satisfies_the_ranges_of_the_project(path: Path) -> None:
    if path.stem == "build":
        wanted = [Requirement(text) for text in PROJECT["build-system"]["requires"]]
    else:
        wanted = asked_for(lock_script.DEPLOYABLES[path.stem])
    lock = read_lock(path)
    assert wanted
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        assert requirement.specifier.contains(lock[name].version), name


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_of_a_lock_has_one_version_and_hashes(path: Path) -> None:
    text = path.read_text()
    lock = read_lock(path)
    assert len(lock) == len(re.findall(r"^\S+==", text, re.MULTILINE))
    for one in lock.values():
        assert one.hashes, one.name
        assert len(set(one.hashes)) == len(one.hashes)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_names_no_index_and_no_place_of_the_machine_that_made_it(path: Path) -> None:
    text = path.read_text()
    for word in ("://", "--index", "--find-links", "--trusted-host", " @ ", str(Path.home()), "/tmp"):
        assert word not in text


@pytest.mark.parametrize("name", [name for name in lock_script.DEPLOYABLES if name != "dev"])
def test_a_deployable_has_the_versions_that_the_tests_use(name: str) -> None:
    dev = read_lock(ROOT / "locks" / "dev.txt")
    for one in read_lock(ROOT / "locks" / f"{name}.txt").values():
        # The tools of a release are in an environment of their own, beside the tests' one.
        if name != "release" or one.name in dev:
            assert one.version == dev[one.name].version, one.name


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_function_s_lock_means_the_same_on_every_machine_that_makes_the_bundle(cloud: str) -> None:
    """pip judges markers by the Python that runs it, which is not the function's."""
    for one in locked(cloud).values():
        if one.marker:
            found = {
                Marker(one.marker).evaluate(
                    {"python_version": python, "sys_platform": system, "platform_machine": machine}
                )
                for python in PYTHONS
                for system in ("linux", "darwin")
                for machine in ("x86_64", "aarch64", "arm64")
            }
            assert found == {True}, one.name


def configurations() -> list[DeliveryConfig]:
    paths = sorted((ROOT / "configs").glob("*.jsonc"))
    return [DeliveryConfig.model_validate(delivery_part(read_config(p)), by_name=False) for p in paths]


def test_what_the_function_imports_has_the_locked_version_whatever_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    lock = locked("aws")
    for config in configurations():
        for name, version in packages(config).items():
            assert version == f"=={lock[name].version}"
        for line in gcp.requirements(config).splitlines():
            name, _, version = line.partition("==")
            assert version == locked("gcp")[name].version


def test_google_s_pip_gets_all_packages_with_hashes(tmp_path: Path) -> None:
    gcp.source(ROOT / "configs" / "mail2gcp.jsonc", tmp_path / "function.zip")
    with zipfile.ZipFile(tmp_path / "function.zip") as archive:
        lines = archive.read("requirements.txt").decode().splitlines()
    names = {line.partition("==")[0] for line in lines}
    lock = locked("gcp")
    assert {"functions-framework", "google-cloud-storage", "protobuf", "grpcio"} <= names <= set(lock)
    for line in lines:
        name, _, rest = line.partition("==")
        assert rest == lock[name].requirement.removeprefix("==")
        assert "--hash=sha256:" in rest
    for name in names:  # what pip would add is refused by pip, hence has to be here
        assert {other for other, one in lock.items() if name in one.needed_by} <= names


def wheel(folder: Path, name: str, version: str, needs: str = "") -> str:
    """A wheel, and the hash of its file."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    requires = f"Requires-Dist: {needs}\n" if needs else ""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(f"{name}.py", version)
        made.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
        )
        made.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{about}/RECORD", "")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "hash", str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].removeprefix("--hash=")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip takes wheels from, and no other place."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def small_lock(folder: Path, **hashes: str) -> Path:
    path = folder / "lock.txt"
    path.write_text(
        f"# made by hand\nabove==1.0 \\\n    --hash={hashes['above']}\n    # via\n"
        f"    #   smtp-relay (pyproject.toml)\nbelow==1.0 \\\n    --hash={hashes['below']}\n"
        "    # via\n    #   above\n"
    )
    return path


def test_a_bundle_holds_what_the_lock_names_and_no_newer_version(tmp_path: Path, index: Path) -> None:
    above = wheel(index, "above", "1.0", "below>=1")
    below = wheel(index, "below", "1.0")
    wheel(index, "below", "1.1")
    lock = read_lock(small_lock(tmp_path, above=above, below=below))
    install(Platform(), with_dependencies(lock, ["above"]), tmp_path / "tree")
    assert (tmp_path / "tree" / "below.py").read_text() == "1.0"


def test_a_bundle_takes_no_file_with_another_hash_and_no_package_beside_the_lock(
    tmp_path: Path, index: Path
) -> None:
    above = wheel(index, "above", "1.0", "below>=1")
    wheel(index, "below", "1.0")
    lock = read_lock(small_lock(tmp_path, above=above, below=ZERO))
    with pytest.raises(ConfigError, match="DO NOT MATCH THE HASHES"):
        install(Platform(), with_dependencies(lock, ["above"]), tmp_path / "one")
    with pytest.raises(ConfigError, match="all requirements must have their versions pinned"):
        install(Platform(), {"above": lock["above"].requirement}, tmp_path / "other")


@pytest.mark.parametrize("line", ["below>=1 \\", "below==1.0", "git+https://a.example/below", "-r other.txt"])
def test_what_is_no_line_of_a_lock_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "lock.txt"
    path.write_text(f"{line}\n    --hash={ZERO}\n")
    with pytest.raises(ConfigError, match=r"lock\.txt, line 1"):
        read_lock(path)


def test_a_package_that_the_lock_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="hold no requests-of-nobody"):
        with_dependencies(locked("aws"), ["pydantic", "requests-of-nobody"])


@pytest.mark.slow
@pytest.mark.parametrize(("python", "arch"), [(min(RUNTIMES), "x86_64"), (max(RUNTIMES), "arm64")])
def test_the_function_s_lock_has_wheels_for_the_oldest_and_the_newest_runtime(
    tmp_path: Path, python: str, arch: str
) -> None:
    wanted = with_dependencies(locked("aws"), locked("aws"))
    install(Platform(python, arch), wanted, tmp_path)
    found = {path.name.split("-")[0].lower().replace("_", "-") for path in tmp_path.glob("*.dist-info")}
    assert found == set(wanted)


# -- base images ----------------------------------------------------------------------------------


def known_images() -> dict[str, str]:
    found: dict[str, str] = json.loads(lock_script.IMAGES.read_text()) if lock_script.IMAGES.exists() else {}
    return found


def test_every_dockerfile_is_known_to_the_lock() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "*Dockerfile*"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(tracked.stdout.split()) == set(lock_script.DOCKERFILES)


@pytest.mark.parametrize("path", lock_script.DOCKERFILES)
def test_a_dockerfile_has_the_digests_that_are_locked(path: str) -> None:
    assert lock_script.faults_of_images((ROOT / path).read_text(), known_images()) == []


def test_a_base_image_without_its_locked_digest_is_refused() -> None:
    text = (ROOT / "listener" / "Dockerfile").read_text()
    plain = DIGEST.sub("", text)
    assert set(lock_script.base_images(text)) == {IMAGE}
    assert len(lock_script.faults_of_images(plain, {IMAGE: ZERO})) == 2
    pinned = lock_script.with_digests(text, {IMAGE: ZERO})
    assert re.findall(rf"^FROM .*{IMAGE}@{ZERO}", pinned, re.MULTILINE) == [
        f"FROM --platform=$BUILDPLATFORM {IMAGE}@{ZERO}",
        f"FROM {IMAGE}@{ZERO}",
    ]
    assert unpinned(pinned) == []
    assert len(unpinned(plain)) == 2
    assert with_stand_ins(pinned, "arm64") == with_stand_ins(plain, "arm64")
    assert lock_script.faults_of_images(pinned, {IMAGE: ZERO}) == []
    assert len(lock_script.faults_of_images(pinned, {IMAGE: ZERO.replace("0", "1")})) == 2
    assert DIGEST.sub("", pinned) == plain
    renewed = lock_script.with_digests(pinned, {IMAGE: ZERO.replace("0", "1")})
    assert ZERO not in renewed
    assert renewed.count(ZERO.replace("0", "1")) == 2


def test_own_stages_and_scratch_are_no_base_images() -> None:
    text = f"FROM {IMAGE} AS build\nFROM build AS more\nFROM scratch\nFROM a.example/b:1\n"
    assert list(lock_script.base_images(text)) == [IMAGE, "a.example/b:1"]


def test_the_image_takes_packages_with_hashes_only() -> None:
    """Also what builds wheels: pip would take that from the index without hashes."""
    text = (ROOT / "listener" / "Dockerfile").read_text().replace("\\\n", " ")
    commands = re.findall(r"-m pip .*?(?=&&|\n|$)", text)
    assert len(commands) == 6
    for command in commands:
        own = "--no-index" in command or command.rstrip().endswith("/dist .")
        assert own or "--require-hashes" in command, command
        assert "pip wheel" not in command or "--no-build-isolation" in command, command
    for extras in re.findall(r"EXTRAS=(\S+)", text):
        assert (ROOT / "locks" / f"{extras.replace(',', '-')}.txt").exists()
