"""The bill of materials names what is installed, with the lock's versions and hashes, or is not written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import pytest

from scripts import sbom
from tests.support.programs import NODE_MODULES, program, run
from tests.support.servers.relay import ROOT

FILES: Final = {"above": b"the file of above", "below": b"the file of below"}


def install(site: Path, name: str, version: str, *lines: str) -> None:
    """The metadata of an installed distribution."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    head = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines]
    (folder / "METADATA").write_text("\n".join(head) + "\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    install(folder, "smtp-relay", "3.0.0+local", "License-Expression: MIT", "Requires-Dist: Above>=1")
    install(
        folder,
        "Above",
        "1.0",
        "Classifier: License :: OSI Approved :: BSD License",
        "Requires-Dist: be.low (>=1)",
        "Requires-Dist: smtp-relay ; extra == 'test'",
    )
    install(folder, "be-low", "2.0", "License: Apache-2.0")
    return folder


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    path = tmp_path / "lock.txt"
    path.write_text(
        f"# made by hand\nabove==1.0 \\\n    --hash=sha256:{'0' * 64} \\\n"
        f"    --hash=sha256:{hashes['above']}\n"
        f"    # via\n    #   smtp-relay\nbe-low==2.0 \\\n    --hash=sha256:{hashes['below']}\n"
        f"winonly==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:{'1' * 64}\n"
    )
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / f"{name}.whl").write_bytes(content)
    return folder


def made(tmp_path: Path, *arguments: str | Path) -> dict[str, Any]:
    out = tmp_path / "made" / "sbom.cdx.json"
    sbom.main([*map(str, arguments), "--out", str(out)])
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_each_component_has_its_version_its_license_and_the_hash_of_its_file(
    tmp_path: Path, site: Path, lock: Path, files: Path
) -> None:
    found = made(tmp_path, "--site", site, "--lock", lock, "--files", files)
    assert found["metadata"]["component"]["purl"] == "pkg:pypi/smtp-relay@3.0.0%2Blocal"
    above, below = found["components"]
    assert (above["name"], above["version"], below["name"], below["version"]) == (
        "above",
        "1.0",
        "be-low",
        "2.0",
    )
    assert above["licenses"] == [{"license": {"name": "BSD License"}}]
    assert below["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    assert above["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(FILES["above"]).hexdigest()}]
    needs = {one["ref"].split("/")[1].split("@")[0]: one["dependsOn"] for one in found["dependencies"]}
    assert needs == {"smtp-relay": [above["bom-ref"]], "above": [below["bom-ref"]], "be-low": []}


def test_the_same_installation_gives_the_same_bytes_and_a_given_time_is_told(
    tmp_path: Path, site: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    first = made(tmp_path, "--site", site, "--lock", lock)
    assert made(tmp_path, "--site", site, "--lock", lock) == first
    assert "timestamp" not in first["metadata"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    told = made(tmp_path, "--site", site, "--lock", lock)
    assert told["metadata"].pop("timestamp") == "2023-11-14T22:13:20Z"
    assert told == first
    install(site, "winonly", "1.0")
    assert made(tmp_path, "--site", site, "--lock", lock)["serialNumber"] != first["serialNumber"]


@pytest.mark.parametrize(
    ("name", "version", "text"),
    [
        ("be-low", "2.1", "be-low has version 2.1, and the lock has 2.0"),
        ("be-low", "", "be-low is not installed"),
        ("smtp-relay", "", "smtp-relay is not installed"),
        ("stranger", "1.0", "stranger is not in the lock"),
        ("winonly", "1.0", "winonly was not installed from a file of the lock"),
    ],
)
def test_another_installation_than_the_lock_s_is_refused(
    tmp_path: Path, site: Path, lock: Path, files: Path, name: str, version: str, text: str
) -> None:
    for folder in site.glob(f"{name.replace('-', '_')}-*"):
        (folder / "METADATA").unlink()
        folder.rmdir()
    if version:
        install(site, name, version)
    with pytest.raises(SystemExit, match=text):
        made(tmp_path, "--site", site, "--lock", lock, "--files", files)
    assert not (tmp_path / "made").exists()


def test_make_sbom_lists_the_image_s_lock_and_fits_cyclonedx_s_schema(tmp_path: Path) -> None:
    found = made(tmp_path)
    lock = sbom.read_lock(sbom.LOCK)
    certain = {name for name, one in lock.items() if not one.conditional}
    assert certain <= {one["name"] for one in found["components"]} <= lock.keys()
    assert all(one["version"] == lock[one["name"]].version for one in found["components"])
    schemas = ROOT / ".state" / "cyclonedx"
    judge = ROOT / "tests" / "support" / "cyclonedx.cjs"
    command = [program("node", "nodejs"), judge, schemas, tmp_path / "made" / "sbom.cdx.json"]
    done = run(command, env={"NODE_MODULES": str(NODE_MODULES)})
    assert json.loads(done.stdout) == []
    (tmp_path / "bad.json").write_text(json.dumps(found | {"components": [{"type": "library"}]}))
    done = run([*command[:-1], tmp_path / "bad.json"], env={"NODE_MODULES": str(NODE_MODULES)})
    assert json.loads(done.stdout) != []
