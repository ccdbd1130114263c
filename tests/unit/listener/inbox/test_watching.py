"""What the system tells of folders, and what happens where it tells nothing."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.inbox import watching
from listener.inbox.watching import FolderWatch


@pytest.fixture
def watch() -> Iterator[FolderWatch]:
    made = FolderWatch()
    yield made
    made.close()


def test_a_wait_ends_when_it_is_woken_or_time_is_up(watch: FolderWatch) -> None:
    assert not watch.wait(0)
    threading.Timer(0.05, watch.wake).start()
    began = time.monotonic()
    assert not watch.wait(60)
    assert time.monotonic() - began < 30
    for _ in range(100_000):
        watch.wake()  # never waits itself
    watch.close()
    watch.wake()


def test_without_inotify_it_only_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_libc", lambda: None)
    watch = FolderWatch()
    assert not watch.works
    watch.follow([tmp_path])
    (tmp_path / "a").touch()
    assert not watch.wait(0.01)
    watch.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has inotify")
class TestInotify:
    def test_names_that_come_and_go_but_no_hidden_ones(self, watch: FolderWatch, tmp_path: Path) -> None:
        assert watch.works
        watch.follow([tmp_path])
        (tmp_path / ".hidden").touch()
        assert not watch.wait(0.2)
        (tmp_path / ".hidden").rename(tmp_path / "shown")
        assert watch.wait(10)
        (tmp_path / "shown").unlink()
        assert watch.wait(10)
        assert watch.written == set()

    def test_files_that_are_written(self, watch: FolderWatch, tmp_path: Path) -> None:
        watch.follow([tmp_path])
        (tmp_path / "ä b").write_bytes(b"x")
        while not watch.written:
            assert watch.wait(10)
        assert watch.written == {tmp_path / "ä b"}

    def test_a_folder_that_is_made_again_is_watched_again(self, watch: FolderWatch, tmp_path: Path) -> None:
        folder = tmp_path / "one"
        for _ in range(3):
            folder.mkdir()
            watch.follow([folder])
            (folder / "a").touch()
            assert watch.wait(10)
            shutil.rmtree(folder)
            assert watch.wait(10)
            while watch.wait(0.05):
                pass

    def test_folders_that_are_not_wanted_any_more_are_left(self, watch: FolderWatch, tmp_path: Path) -> None:
        watch.follow([tmp_path, tmp_path / "missing"])
        watch.follow([])
        while watch.wait(0.05):
            pass
        (tmp_path / "a").touch()
        assert not watch.wait(0.2)

    def test_lost_events_are_noticed(self, watch: FolderWatch, tmp_path: Path) -> None:
        watch.follow([tmp_path])
        most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
        one, other = tmp_path / "a", tmp_path / "b"
        one.touch()
        for _ in range(most // 2 + 10):
            one.rename(other)
            other.rename(one)
        while not watch.overflowed:
            assert watch.wait(10)
