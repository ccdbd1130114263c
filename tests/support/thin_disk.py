"""A disk that can lose writes, by the kernel's own means (root and loop devices only).

An ext4 lies in a sparse file of a small tmpfs. Its journal and tables have their pages from the
start, its free blocks have none. When the tmpfs is full, a write to a block that never had a page
fails behind the writer's back, as it does on a thinly provisioned volume or a dying disk: the next
fsync reports it once, the kernel marks the pages clean, and from then on only its memory has the
bytes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_BLOCK: Final = 4_096
_ROOM: Final = 24
"""Megabytes of the tmpfs beyond the size of the image when it is full."""

_FREE: Final = re.compile(r"^ +Free blocks: (.+)$", re.MULTILINE)


class ThinDisk:
    """The mounted file system: `path` is where."""

    def __init__(self, path: Path, backing: Path, megabytes: int) -> None:
        self.path = path
        self._backing = backing
        self._image = backing / "image"
        self._cuts = 0
        self._tables: list[tuple[int, int]] = []
        """The places of journal and tables: first and last block but one."""
        self._make(megabytes)
        self._mount()

    def make_room(self, folder: Path) -> None:
        """Give a folder its blocks for a thousand names: without them the file system would end."""
        folder.mkdir(parents=True, exist_ok=True)
        names = [folder / f".{number:0100d}" for number in range(1_000)]
        for each in names:
            each.touch()
        os.sync()
        for each in names:
            each.unlink()
        os.sync()

    def starve(self, *, at_once: bool = False) -> None:
        """From now on no block gets a page: a write to a new one is lost. With `at_once`, writes that
        are still in the kernel's memory are lost too. That may be a block of a folder, unless it has
        room (`make_room`), and without one of those the file system ends."""
        if not at_once:
            # It may report an earlier loss.
            subprocess.run(["sync", "--file-system", str(self.path)], check=False, capture_output=True)
        with (self._backing / "filler").open("wb", buffering=0) as filler:
            for size in (1_048_576, _BLOCK):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(b"\0" * size)

    def relieve(self) -> None:
        """Blocks get pages again."""
        (self._backing / "filler").unlink(missing_ok=True)

    def writable(self) -> bool:
        """True if the file system itself still works: it ends when blocks of its own were lost."""
        os.sync()  # or it would notice later
        try:
            (self.path / ".writable").touch()
        except OSError:
            return False
        return True

    def cut(self) -> None:
        """A power cut: data that the disk does not hold now is gone. No process that goes on may have
        files of it open."""
        self._cuts += 1
        kept = self._backing.parent / f"image-{self._cuts}"
        _run("cp", "--sparse=always", self._image, kept)
        self.close()
        self._image.unlink()
        self.relieve()
        _run("cp", "--sparse=always", kept, self._image)
        kept.unlink()
        self._back_tables()
        self._mount()

    def close(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=False, capture_output=True)

    def _make(self, megabytes: int) -> None:
        with self._image.open("wb") as image:
            for _ in range(megabytes):
                image.write(b"\0" * 1_048_576)
        # The kernel would make the tables itself, later, and take their pages by that.
        tables = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
        _run("mkfs.ext4", "-q", "-F", "-b", _BLOCK, "-m", "0", "-E", tables, self._image)
        at = 0
        for line in _FREE.findall(_run("dumpe2fs", self._image)):
            for one in line.split(","):
                first, _, last = one.strip().partition("-")
                self._tables.append((at, int(first)))
                at = int(last or first) + 1
                size = (at - int(first)) * _BLOCK
                _run(
                    "fallocate",
                    "--punch-hole",
                    "--offset",
                    int(first) * _BLOCK,
                    "--length",
                    size,
                    self._image,
                )
        self._tables.append((at, megabytes * 1_048_576 // _BLOCK))
        self._back_tables()

    def _back_tables(self) -> None:
        """Give journal and tables their pages: without them the file system itself would end."""
        with self._image.open("r+b", buffering=0) as image:
            for first, end in self._tables:
                for block in range(first, end):
                    image.seek(block * _BLOCK)
                    piece = image.read(_BLOCK)
                    image.seek(block * _BLOCK)
                    image.write(piece)

    def _mount(self) -> None:
        # A deleted block loses its page; otherwise a new file on it could not be lost.
        _run("mount", "-o", "loop,noatime,discard,noinit_itable", self._image, self.path)
        device = Path(_run("findmnt", "--noheadings", "--output", "SOURCE", self.path).strip())
        # A loop device takes a write that the tmpfs cut short for a whole one, so none may be cut
        # short.
        (Path("/sys/block") / device.name / "queue" / "max_sectors_kb").write_text(str(_BLOCK // 1024))


@contextmanager
def thin_disk(path: Path, megabytes: int = 128) -> Iterator[ThinDisk]:
    """Such a disk at `path`. Skips the test if it cannot be made."""
    backing = path.with_name(f"{path.name}.backing")
    for each in (path, backing):
        each.mkdir(parents=True, exist_ok=True)
    disk = None
    try:
        if os.geteuid() != 0:
            pytest.skip("a thin disk needs root")
        size = f"size={megabytes + _ROOM}m,mode=0755"
        try:
            _run("mount", "-t", "tmpfs", "-o", size, "tmpfs", backing)
            disk = ThinDisk(path, backing, megabytes)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            pytest.skip(f"a thin disk needs loop devices and e2fsprogs: {error}")
        yield disk
    finally:
        if disk is not None:
            disk.close()
        subprocess.run(["umount", "--lazy", str(backing)], check=False, capture_output=True)
        shutil.rmtree(backing, ignore_errors=True)


def _run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
