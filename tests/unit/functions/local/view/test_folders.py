"""The folders of stored mails: what is new, and what may be removed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.errors import ConfigError
from functions.local.view.folders import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "mails").mkdir()
    return Folder(tmp_path / "mails", trusted=False)


def put(folder: Folder, name: str) -> Path:
    path = folder.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


def new(folder: Folder) -> list[str]:
    return sorted(one.path.name for one in folder.scan_new())


def aged(folder: Folder) -> None:
    """The folders were changed long ago."""
    for place, _, _ in os.walk(folder.path):
        os.utime(place, (1_000, 1_000))


class TestWhatIsNew:
    def test_each_file_is_new_once(self, folder: Folder) -> None:
        put(folder, "a")
        assert new(folder) == ["a"]
        put(folder, "b")
        assert new(folder) == ["b"]
        assert new(folder) == []

    def test_a_folder_in_the_folder_counts_and_one_that_is_made_later(self, folder: Folder) -> None:
        put(folder, "in/a")
        assert new(folder) == ["a"]
        put(folder, "in/b")
        put(folder, "later/deep/c")
        assert new(folder) == ["b", "c"]
        aged(folder)
        new(folder)
        put(folder, "later/deep/d")
        assert new(folder) == ["d"]

    def test_a_look_at_many_folders_where_nothing_happens_is_cheap(self, folder: Folder) -> None:
        for number in range(1_000):
            put(folder, f"{number}/a")
        aged(folder)
        assert len(new(folder)) == 1_000
        before = time.process_time()
        assert new(folder) == []
        assert time.process_time() - before < 0.5

    def test_a_name_that_is_used_again_is_new(self, folder: Folder) -> None:
        path = put(folder, "a")
        assert new(folder) == ["a"]
        path.unlink()
        assert new(folder) == []
        put(folder, "a")
        assert new(folder) == ["a"]

    def test_a_file_that_replaces_another_is_new(self, folder: Folder) -> None:
        put(folder, "a")
        new(folder)
        put(folder, "b").rename(folder.path / "a")
        assert new(folder) == ["a"]

    def test_a_folder_that_is_made_later_is_seen(self, tmp_path: Path) -> None:
        folder = Folder(tmp_path / "later", trusted=False)
        assert new(folder) == []
        put(folder, "a")
        assert new(folder) == ["a"]

    def test_an_unchanged_folder_is_not_read_again(
        self, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(folder, "in/a")
        new(folder)
        aged(folder)
        new(folder)
        read: list[object] = []
        scandir = os.scandir
        monkeypatch.setattr(os, "scandir", lambda path: read.append(path) or scandir(path))
        for _ in range(5):
            assert new(folder) == []
        assert read == []

    def test_a_link_to_a_folder_is_not_followed(self, folder: Folder, tmp_path: Path) -> None:
        (folder.path / "up").symlink_to(tmp_path, target_is_directory=True)
        assert new(folder) == ["up"]


class TestRemoving:
    @pytest.fixture
    def outside(self, tmp_path: Path) -> Iterator[Path]:
        path = tmp_path / "outside"
        path.mkdir()
        (path / "victim").write_text("x")
        yield path
        assert (path / "victim").read_text() == "x"

    def test_a_file_and_one_in_a_folder_of_the_folder(self, folder: Folder) -> None:
        for name in ("a", "in/b"):
            path = put(folder, name)
            folder.remove(path)
            assert not path.exists()

    def test_never_through_a_link(self, folder: Folder, outside: Path) -> None:
        (folder.path / "in").symlink_to(outside, target_is_directory=True)
        with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
            folder.remove(folder.path / "in" / "victim")

    def test_never_a_link_itself(self, folder: Folder, outside: Path) -> None:
        link = folder.path / "link"
        link.symlink_to(outside / "victim")
        with pytest.raises(OSError, match="is not a regular file"):
            folder.remove(link)
        assert link.is_symlink()

    @pytest.mark.parametrize("path", ["../outside/victim", "in/../../outside/victim", ".", ""])
    def test_never_elsewhere(self, folder: Folder, outside: Path, path: str) -> None:
        with pytest.raises(ConfigError, match="is not in a folder of a file output"):
            folder.remove(folder.path / path)

    def test_the_folder_itself_may_be_a_link_of_the_operator(self, folder: Folder, tmp_path: Path) -> None:
        (tmp_path / "short").symlink_to(folder.path, target_is_directory=True)
        short = Folder(tmp_path / "short", trusted=False)
        path = put(folder, "a")
        short.remove(path)
        assert not path.exists()
        put(folder, "a")
        short.remove(tmp_path / "short" / "a")
        assert not path.exists()


class TestWhatIsGone:
    def gone(self, folder: Folder) -> list[str]:
        list(folder.scan_new())
        return sorted(path.name for path in folder.take_gone())

    def test_each_removed_file_is_gone_once(self, folder: Folder) -> None:
        path = put(folder, "a")
        put(folder, "b")
        assert self.gone(folder) == []
        path.unlink()
        assert self.gone(folder) == ["a"]
        assert self.gone(folder) == []

    def test_a_removed_folder_takes_its_files_along(self, folder: Folder) -> None:
        put(folder, "in/deep/a")
        put(folder, "in/b")
        assert self.gone(folder) == []
        shutil.rmtree(folder.path / "in")
        assert self.gone(folder) == ["a", "b"]

    def test_all_files_are_gone_with_the_folder_itself_and_come_back_with_it(self, folder: Folder) -> None:
        put(folder, "a")
        assert self.gone(folder) == []
        shutil.rmtree(folder.path)
        assert self.gone(folder) == ["a"]
        put(folder, "a")
        assert new(folder) == ["a"]

    def test_a_file_that_takes_anothers_name_is_new_and_the_other_gone(self, folder: Folder) -> None:
        put(folder, "a")
        assert self.gone(folder) == []
        (folder.path / ".other").write_text("y")
        (folder.path / ".other").rename(folder.path / "a")
        assert new(folder) == ["a"]
        assert [path.name for path in folder.take_gone()] == ["a"]
