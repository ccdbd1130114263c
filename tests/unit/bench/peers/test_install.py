"""The peers' programs are installed once, and a line says why one is not here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.peers import install

NPM = """#!/bin/sh
echo "$@" >> calls
[ -e ../broken ] && { echo 'npm error first' >&2; echo 'npm error no such registry' >&2; exit 1; }
mkdir -p node_modules/Haraka
echo '{"version": "9.8.7"}' > node_modules/Haraka/package.json
echo > node_modules/.package-lock.json
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is before the path, with an npm and a node that write down what they are asked; sources
    and target are in folders of this test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in (("npm", NPM), ("node", "#!/bin/sh\necho v1.2.3\n")):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    source = tmp_path / "peers" / "npm"
    source.mkdir(parents=True)
    (source / "package.json").write_text("{}")
    (source / "package-lock.json").write_text("{}")
    monkeypatch.setattr(install, "PEERS", source.parent)
    monkeypatch.setattr(install, "INSTALLED", tmp_path / "installed")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "installed" / "npm" / "calls").read_text().splitlines()


def test_packages_are_installed_once_by_their_lock_file(programs: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert install.package("Haraka") == tmp_path / "installed" / "npm" / "node_modules" / "Haraka"
    (call,) = calls(tmp_path)
    assert call.split()[0] == "ci"
    assert "--ignore-scripts" in call
    assert install.package_version("Haraka") == "9.8.7 on Node.js 1.2.3"


def test_a_changed_lock_file_installs_again(programs: Path, tmp_path: Path) -> None:
    install.package("Haraka")
    (tmp_path / "peers" / "npm" / "package-lock.json").write_text('{"changed": true}')
    install.package("Haraka")
    assert len(calls(tmp_path)) == 2


def test_an_unfinished_install_is_done_again(programs: Path, tmp_path: Path) -> None:
    install.package("Haraka")
    (tmp_path / "installed" / "npm" / "node_modules" / ".package-lock.json").unlink()
    install.package("Haraka")
    assert len(calls(tmp_path)) == 2


def test_a_failed_install_says_npms_last_line(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "broken").touch()
    with pytest.raises(install.Missing, match=r"^npm ci fails: npm error no such registry$"):
        install.package("Haraka")


def test_without_programs_each_peer_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(install.Missing, match=r"needs Node\.js with npm"):
        install.package("maildev")
    with pytest.raises(install.Missing, match="golang-github-emersion-go-smtp-dev"):
        install.go_smtp()
    with pytest.raises(install.Missing, match="the path has no mailpit: get one"):
        install.on_path("mailpit", "get one")
    assert install.printed("node", "--version") == "unknown"


def test_the_lock_file_pins_each_package_by_its_digest_and_names_no_registry() -> None:
    lock = json.loads((install.PEERS / "npm" / "package-lock.json").read_text())
    wanted = json.loads((install.PEERS / "npm" / "package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    packages = [each for path, each in lock["packages"].items() if path]
    assert all(each.get("integrity", "").startswith("sha512-") for each in packages)
    assert not any("resolved" in each for each in packages)
