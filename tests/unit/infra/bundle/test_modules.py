"""The modules of functions/ in each cloud's bundle. tests/data/bundle_modules.json has the lists; for
modules that have moved since, tests/data/moved_modules.json has old names and new ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from infra.bundle.source import LEFT_OUT, copy_functions
from tests.support.servers.relay import ROOT

DATA: Final = ROOT / "tests" / "data"
MODULES: Final[dict[str, list[str]]] = json.loads((DATA / "bundle_modules.json").read_text())
MOVED: Final[dict[str, str | list[str]]] = json.loads((DATA / "moved_modules.json").read_text())


def now(name: str) -> list[str]:
    """The present place of a module of the lists: several places if it was split."""
    found = MOVED.get(name, name)
    return [found] if isinstance(found, str) else found


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_bundle_holds_the_modules_of_its_list_and_no_other(cloud: str, tmp_path: Path) -> None:
    """A new module is either added to the list, or left out by a folder of LEFT_OUT. The `__init__` of
    a folder comes with the folder."""
    copy_functions(tmp_path, cloud)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py")}
    expected = {new for name in MODULES[cloud] for new in now(name) if new.startswith("functions/")}
    assert modules(found) == modules(expected)
    folders = {Path(name).parent for name in found}
    assert packages(found) == {path for path in folders if (ROOT / path / "__init__.py").exists()}


def modules(names: set[str]) -> set[str]:
    return {name for name in names if not name.endswith("/__init__.py")}


def packages(names: set[str]) -> set[Path]:
    return {Path(name).parent for name in names if name.endswith("/__init__.py")}


def test_everything_that_is_left_out_exists() -> None:
    """A name that no module has any more leaves nothing out."""
    for name in {each for names in LEFT_OUT.values() for each in names}:
        assert (ROOT / name).exists(), name


def test_every_move_ends_at_a_module_that_exists() -> None:
    for name in MOVED:
        for new in now(name):
            assert (ROOT / new).is_file(), f"{name} is now {new}"
