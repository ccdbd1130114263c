"""The disk that loses writes loses those of files, and keeps its own tables and folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.thin_disk import ThinDisk, thin_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[ThinDisk]:
    with thin_disk(tmp_path / "disk") as made:
        yield made


def test_a_starved_disk_loses_files_and_keeps_the_folders_that_were_there(disk: ThinDisk) -> None:
    folder = disk.path / "part-0" / "large"
    folder.mkdir(parents=True)
    (folder / "before").write_bytes(b"kept")
    disk.starve()
    lost = folder / "lost"
    lost.write_bytes(os.urandom(4_096))
    os.sync()  # also the folders' blocks
    disk.relieve()
    assert disk.writable()
    disk.cut()
    assert (folder / "before").read_bytes() == b"kept"
    assert not lost.exists() or not lost.read_bytes().strip(b"\0")
