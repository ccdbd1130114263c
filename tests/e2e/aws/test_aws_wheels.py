"""The requirements of the function's packages on Lambda: for each runtime and processor that a deployment may
name, the packages of every example, and of one that signs with DKIM, are installed as the bundle
installs them, and each shared object is read."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags, parse_tag

from functions.config import DeliveryConfig
from infra.bundle.build import bundle, packages
from infra.bundle.runtime import RUNTIMES, THIS_PYTHON, Platform
from infra.bundle.source import delivery_part, read_config
from infra.bundle.wheels import install
from tests.support.elf import shared_object
from tests.support.servers.relay import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("aws-wheels")]

GLIBC: Final = {"3.11": (2, 26), "3.12": (2, 34), "3.13": (2, 34), "3.14": (2, 34)}
"""The C library of each runtime: Amazon Linux 2 for Python 3.11, Amazon Linux 2023 for the later ones
(docs.aws.amazon.com, "Lambda runtimes")."""

LIBC: Final = frozenset(
    {
        *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"),
        *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libgcc_s.so.1"),
    }
)
"""Libraries that both systems have. Neither has `libc.musl-…`."""

MACHINES: Final = {"arm64": "aarch64", "x86_64": "x86_64"}

KEY: Final = {"domainName": "example.com", "keySelector": "s", "privateKey": "ssm:/key"}
SIGNS: Final = {"type": "mailer", "nodemailer": {"host": "smtp.example.com"}, "dkims": {"example.com": KEY}}
SIGNING: Final = {"spool": "s3://any/any", "flows": {"any": {"outputs": [SIGNS]}}}
PLATFORMS: Final = [Platform(python, arch) for python, arch in product(RUNTIMES, MACHINES)]


def sets_of_packages() -> list[dict[str, str]]:
    """The packages of the configurations, without those that another one's packages include."""
    configs = [read_config(path) for path in sorted((ROOT / "configs").glob("*.jsonc"))]
    configs.append(SIGNING)
    parts = [DeliveryConfig.model_validate(delivery_part(each), by_name=False) for each in configs]
    found = {frozenset(packages(part).items()) for part in parts}
    return [dict(each) for each in found if not any(each < other for other in found)]


@pytest.fixture(scope="module", params=PLATFORMS, ids=lambda platform: f"{platform.python}-{platform.arch}")
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Platform, list[Path]]:
    platform: Platform = request.param
    trees = []
    for wanted in sets_of_packages():
        trees.append(tmp_path_factory.mktemp("packages"))
        install(platform, wanted, trees[-1])
    return platform, trees


def shared_objects(trees: list[Path]) -> Iterator[Path]:
    for tree in trees:
        yield from (path for path in tree.rglob("*") if ".so" in path.suffixes)


def test_every_runtime_of_the_settings_is_known() -> None:
    assert set(GLIBC) == set(RUNTIMES)


def check(trees: list[Path], platform: Platform) -> None:
    """Fail if a shared object does not load on the platform."""
    names = set()
    for path in shared_objects(trees):
        found = shared_object(path)
        assert found.processor == platform.arch, path.name
        beside = {each.name for each in path.parent.rglob("*.so*")}
        assert found.needed <= LIBC | beside, path.name
        assert found.newest("GLIBC") <= GLIBC[platform.python], (path.name, found.newest("GLIBC"))
        names.add(path.name.partition(".")[0])
    assert {"_pydantic_core", "_rust", "_cffi_backend"} <= names, "what was read is what is deployed"


def test_every_shared_object_loads_where_it_is_deployed(installed: tuple[Platform, list[Path]]) -> None:
    platform, trees = installed
    check(trees, platform)


@pytest.mark.parametrize("arch", MACHINES)
def test_every_shared_object_of_a_finished_zip_loads_where_it_is_deployed(arch: str, tmp_path: Path) -> None:
    """Of this Python's version, because the runtime's own version compiles byte-code."""
    config = tmp_path / "signs.json"
    config.write_text(json.dumps(SIGNING))
    with zipfile.ZipFile(bundle(config, Platform(THIS_PYTHON, arch=arch))) as archive:
        archive.extractall(tmp_path / "task")
    check([tmp_path / "task"], Platform(THIS_PYTHON, arch=arch))


def test_every_wheel_is_for_the_runtimes_python_and_its_system(
    installed: tuple[Platform, list[Path]],
) -> None:
    platform, trees = installed
    version = (3, int(platform.python.removeprefix("3.")))
    _, newest = GLIBC[platform.python]
    machine = MACHINES[platform.arch]
    systems = [f"manylinux_2_{minor}_{machine}" for minor in range(5, newest + 1)] + [
        f"manylinux{year}_{machine}" for year in ("2014", "2010", "1")
    ]
    abis = [f"cp{platform.python.replace('.', '')}", "abi3", "none"]
    fits = {*cpython_tags(version, abis, systems), *compatible_tags(version, "cp", systems)}
    for tree in trees:
        for distribution in metadata.distributions(path=[str(tree)]):
            lines = (distribution.read_text("WHEEL") or "").splitlines()
            tags = [line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: ")]
            assert any(fits & parse_tag(tag) for tag in tags), (distribution.name, tags)


def test_every_requirement_is_there_as_the_runtimes_own_python_reads_it(
    installed: tuple[Platform, list[Path]],
) -> None:
    """pip reads conditions such as `python_version < "3.12"` with the Python that it runs in."""
    platform, trees = installed
    runtime = {
        "python_version": platform.python,
        "python_full_version": f"{platform.python}.0",
        "platform_machine": MACHINES[platform.arch],
        "sys_platform": "linux",
        "extra": "",
    }
    for tree in trees:
        every = {
            each.name.lower().replace("_", "-"): each for each in metadata.distributions(path=[str(tree)])
        }
        assert "pydantic" in every
        for name, distribution in every.items():
            for text in distribution.requires or ():
                needs = Requirement(text)
                if needs.marker is None or needs.marker.evaluate(runtime):
                    assert needs.name.lower().replace("_", "-") in every, f"{name} needs {text}"
