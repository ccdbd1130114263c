"""The wheels that the bundle takes, and its messages without wheels. pip is the real one; the wheels
are in a folder."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from functions.errors import ConfigError
from infra.bundle.runtime import RUNTIMES, Platform
from infra.bundle.wheels import install


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip takes wheels from, and no other place."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(folder: Path, tags: str, version: str = "1.0", name: str = "demo", needs: str = "") -> None:
    """A wheel whose one module tells its name."""
    about = f"{name}-{version}.dist-info"
    python, abi, systems = tags.split("-")
    lines = [f"Tag: {python}-{abi}-{system}" for system in systems.split(".")]
    requires = f"Requires-Dist: {needs}\n" if needs else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-{tags}.whl", "w") as made:
        made.writestr(f"{name}.py", f"{version} {tags}")
        made.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
        )
        made.writestr(
            f"{about}/WHEEL", "\n".join(["Wheel-Version: 1.0", "Root-Is-Purelib: false", *lines, ""])
        )
        made.writestr(f"{about}/RECORD", "")


def installed(folder: Path, platform: Platform, version: str = "==1.0") -> str:
    target = folder / f"{platform.python}-{platform.arch}"
    install(platform, {"demo": version}, target)
    return (target / "demo.py").read_text()


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.parametrize("python", RUNTIMES)
def test_a_runtime_gets_the_newest_wheel_that_its_c_library_can_load(
    wheels: Path, tmp_path: Path, python: str, arch: str
) -> None:
    machine = {"arm64": "aarch64"}.get(arch, arch)
    for glibc in ("17", "26", "27", "28", "34", "35"):
        wheel(wheels, f"cp311-abi3-manylinux_2_{glibc}_{machine}")
    newest = {"3.11": "26"}.get(python, "34")
    assert installed(tmp_path, Platform(python, arch)) == f"1.0 cp311-abi3-manylinux_2_{newest}_{machine}"


@pytest.mark.parametrize("python", ["3.11", "3.14"])
def test_wheels_with_old_tags_load_everywhere(wheels: Path, tmp_path: Path, python: str) -> None:
    systems = (
        "manylinux1",
        "manylinux2010",
        "manylinux2014",
        "manylinux_2_12",
        "manylinux_2_17",
        "manylinux_2_24",
    )
    for system in systems:
        wheel(wheels, f"cp311-abi3-{system}_x86_64", name=system)
    install(Platform(python, "x86_64"), dict.fromkeys(systems, "==1.0"), tmp_path / "tree")
    assert {path.stem for path in (tmp_path / "tree").glob("*.py")} == set(systems)


def test_of_a_range_the_newest_version_with_a_wheel_is_taken(wheels: Path, tmp_path: Path) -> None:
    wheel(wheels, "cp311-abi3-manylinux_2_34_x86_64", "1.2")
    wheel(wheels, "cp311-abi3-manylinux_2_28_x86_64", "1.1")
    wheel(wheels, "cp311-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64", "1.0")
    assert installed(tmp_path, Platform("3.11", "x86_64"), ">=1,<2").startswith("1.0 ")
    assert installed(tmp_path, Platform("3.12", "x86_64"), ">=1,<2").startswith("1.2 ")


@pytest.mark.parametrize(
    "tags",
    [
        "cp311-abi3-manylinux_2_28_x86_64",
        "cp311-abi3-manylinux_2_17_aarch64",
        "cp311-abi3-musllinux_1_2_x86_64",
        "cp311-abi3-linux_x86_64",
        "cp312-abi3-manylinux_2_17_x86_64",
        "cp312-cp312-manylinux_2_17_x86_64",
        "pp311-pypy311_pp73-manylinux_2_17_x86_64",
    ],
)
def test_a_wheel_that_cannot_load_is_refused_in_one_line_that_says_how_to_go_on(
    wheels: Path, tmp_path: Path, tags: str
) -> None:
    wheel(wheels, tags)
    with pytest.raises(ConfigError) as refused:
        installed(tmp_path, Platform("3.11", "x86_64"))
    (line,) = str(refused.value).splitlines()
    assert line.startswith("python3.11 on x86_64 (Amazon Linux 2, glibc 2.26): no wheel loads there: ")
    assert "demo==1.0" in line
    assert "deploy for python 3.12" in line


def test_what_a_package_needs_has_to_load_as_well(wheels: Path, tmp_path: Path) -> None:
    wheel(wheels, "py3-none-any", needs="below>=2")
    wheel(wheels, "cp311-abi3-manylinux_2_34_aarch64", "2.0", "below")
    with pytest.raises(ConfigError, match=r"no wheel loads there: .*below>=2"):
        installed(tmp_path, Platform("3.11", "arm64"))
    assert installed(tmp_path, Platform("3.13", "arm64"))


def test_where_the_c_library_is_the_newest_another_runtime_is_no_way_out(
    wheels: Path, tmp_path: Path
) -> None:
    wheel(wheels, "cp311-abi3-manylinux_2_35_x86_64")
    with pytest.raises(ConfigError) as refused:
        installed(tmp_path, Platform("3.14", "x86_64"))
    assert "Amazon Linux 2023, glibc 2.34" in str(refused.value)
    assert "deploy for" not in str(refused.value)
    assert "install a version that has one" in str(refused.value)


def test_an_index_that_does_not_answer_is_not_taken_for_a_missing_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ConfigError, match=r"pip cannot install the function's packages: .*demo") as refused:
        installed(tmp_path, Platform("3.11", "x86_64"))
    assert "deploy for" not in str(refused.value)
