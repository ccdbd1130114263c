"""The wheel and the source distribution: what they hold, and that anybody can build them again."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

import functions
from scripts import distributions
from tests.e2e.install.conftest import EPOCH, TOOLS, clean
from tests.support.servers.relay import ROOT


def contents(wheel: Path) -> dict[str, str]:
    """The digest of each file of a wheel."""
    with ZipFile(wheel) as opened:
        return {name: hashlib.sha256(opened.read(name)).hexdigest() for name in opened.namelist()}


@pytest.fixture(scope="session")
def about(wheel: Path) -> Message:
    with ZipFile(wheel) as opened:
        (name,) = (one for one in opened.namelist() if one.endswith(".dist-info/METADATA"))
        return message_from_bytes(opened.read(name))


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    names = {name for name in contents(wheel) if ".dist-info/" not in name}
    expected = {"smtp_relay.py"}
    for package in ("functions", "listener", "smtp_relay_testing"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.name != "Dockerfile":
                expected.add(str(path.relative_to(ROOT)))
    share = f"smtp_relay-{functions.__version__}.data/data/share/smtp-relay"
    assert names == expected | {f"{share}/config.schema.json", f"{share}/cloudevent.schema.json"}


def test_both_files_have_the_version_of_the_code(wheel: Path, archive: Path, about: Message) -> None:
    assert wheel.name == f"smtp_relay-{functions.__version__}-py3-none-any.whl"
    assert archive.name == f"smtp_relay-{functions.__version__}.tar.gz"
    assert about["Version"] == functions.__version__


def test_the_metadata_say_all_that_a_package_index_shows(about: Message) -> None:
    assert about["License-Expression"] == "MIT"
    assert about["License-File"] == "LICENSE"
    assert about["Requires-Python"] == ">=3.11"
    assert about["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in about.get_all("Classifier", [])
    assert about["Keywords"]
    links = dict(one.split(", ") for one in about.get_all("Project-URL", []))
    assert set(links) == {"Homepage", "Documentation", "Changelog", "Issues"}
    extras = {"listener", "inbox", "mailer", "aws", "gcp", "cdk"}
    assert extras <= set(about.get_all("Provides-Extra", []))


def test_the_readme_of_the_package_index_links_to_addresses_only(about: Message) -> None:
    page = about.get_payload()
    assert isinstance(page, str)
    targets = re.findall(r"\]\(([^()\s]+)\)", page)
    assert len(targets) > 20
    assert all(target.startswith(("https://", "http://", "#")) for target in targets)
    assert f"](https://github.com/YOU/smtp-relay/blob/v{functions.__version__}/docs/docker.md)" in page
    assert (
        f"](https://raw.githubusercontent.com/YOU/smtp-relay/v{functions.__version__}/docs/inbox.png)" in page
    )


def test_a_link_around_a_picture_becomes_two_addresses() -> None:
    assert distributions.with_addresses("[![a](b.png)](docs/c.md#d)", "o/n", "1") == (
        "[![a](https://raw.githubusercontent.com/o/n/v1/b.png)](https://github.com/o/n/blob/v1/docs/c.md#d)"
    )
    for same in ("[a](#b)", "[a](https://b.example/)", "[a](mailto:b@c.example)"):
        assert distributions.with_addresses(same, "o/n", "1") == same


def test_the_repository_s_name_is_in_the_links_of_the_metadata(tmp_path: Path) -> None:
    distributions.stage(tmp_path / "source", "acme/relay", "1.2.3", int(EPOCH))
    project = (tmp_path / "source" / "pyproject.toml").read_text()
    assert 'Homepage = "https://github.com/acme/relay"' in project
    assert "YOU" not in project
    assert "https://github.com/acme/relay/blob/v1.2.3/" in (tmp_path / "source" / "README.md").read_text()


@pytest.mark.parametrize("name", ["acme", "acme/relay/x", "acme/relay\n", 'a"/b', "../x y"])
def test_a_repository_that_is_none_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", name)
    with pytest.raises(SystemExit, match=r"GITHUB_REPOSITORY: .* write OWNER/NAME"):
        distributions.repository()


@pytest.mark.parametrize("name", ["tests", "bench", "infra", "docs", "configs", "locks", "scripts"])
def test_the_source_distribution_leaves_out_what_only_a_clone_needs(archive: Path, name: str) -> None:
    with tarfile.open(archive) as opened:
        assert not [one for one in opened.getnames() if one.split("/")[1:2] == [name]]


def test_the_source_distribution_builds_the_same_wheel(archive: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    command = [TOOLS, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist", source]
    subprocess.run(command, env=clean(SOURCE_DATE_EPOCH=EPOCH), stdout=subprocess.DEVNULL, check=True)
    (again,) = (tmp_path / "dist").iterdir()
    assert contents(again) == contents(wheel)
    assert again.read_bytes() == wheel.read_bytes()


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources with other rights and times, and with what an earlier build left behind."""
    folder = tmp_path_factory.mktemp("copy")
    for name in (*distributions.SOURCES, "scripts"):
        take = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        take(ROOT / name, folder / name)
        (folder / name).chmod(0o700)
    (folder / "listener" / "proxy.py").touch(mode=0o600)
    (folder / "build" / "lib" / "listener").mkdir(parents=True)
    (folder / "build" / "lib" / "listener" / "left_over.py").write_text("left = 'over'\n")
    return folder


def test_a_build_of_files_with_other_rights_and_times_has_the_same_bytes(dist: Path, copy: Path) -> None:
    program = "import distributions, pathlib; distributions.build(pathlib.Path('dist'))"
    environ = clean(SOURCE_DATE_EPOCH=EPOCH, PYTHONPATH="scripts")
    subprocess.run([TOOLS, "-c", program], cwd=copy, env=environ, check=True)
    digests = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        for folder in (dist, copy / "dist")
    ]
    assert digests[0] == digests[1]


def test_python_s_own_build_holds_the_same_files(copy: Path, wheel: Path, tmp_path: Path) -> None:
    command = [TOOLS, "-m", "build", "--no-isolation", "--outdir", tmp_path, copy]
    subprocess.run(command, env=clean(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    (made,) = tmp_path.glob("*.whl")
    assert set(contents(made)) == set(contents(wheel))


def test_the_schemas_of_the_wheel_are_current(wheel: Path) -> None:
    with ZipFile(wheel) as opened:
        for name in ("config.schema.json", "cloudevent.schema.json"):
            (path,) = (one for one in opened.namelist() if one.endswith(f"/{name}"))
            assert json.loads(opened.read(path)) == json.loads((ROOT / name).read_text())
