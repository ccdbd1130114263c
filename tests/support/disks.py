"""Small file systems to fill up, to make read-only and to make slow (root only)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_FREEZE: Final = 0xC0045877
_THAW: Final = 0xC0045878
"""Of Linux' fs.h: FIFREEZE and FITHAW."""


class Disk:
    """A mounted file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, *, leave: int = 0) -> None:
        """Use up its space except for `leave` bytes."""
        free = shutil.disk_usage(self.path).free
        with (self.path / ".filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while free > leave:
                free -= filler.write(b"\0" * min(free - leave, 65_536))

    def relieve(self) -> None:
        """Give the space back."""
        (self.path / ".filler").unlink()

    def read_only(self, on: bool) -> None:
        """Refuse writes, or accept them again. EBUSY while a file is open for writing."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", self.path], check=True)


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Disk]:
    """A file system of so many megabytes at `path`. Skips the test where mounting is not allowed."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False)


class SlowableDisk(Disk):
    """An ext4 in a file, which can be made as slow as a network mount on a bad day: writes wait."""

    @contextmanager
    def slow(self, longest: float, seed: str) -> Iterator[None]:
        """During the block every write waits, again and again, up to `longest` seconds."""
        stop = threading.Event()
        moments = random.Random(seed)

        def work(fd: int) -> None:
            while not stop.is_set():
                fcntl.ioctl(fd, _FREEZE, 0)
                stop.wait(moments.uniform(0.1, 1.0) * longest)
                fcntl.ioctl(fd, _THAW, 0)
                stop.wait(moments.uniform(0.002, 0.05))

        fd = os.open(self.path, os.O_RDONLY)
        thread = threading.Thread(target=work, args=(fd,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            os.close(fd)


@contextmanager
def slowable_disk(path: Path, megabytes: int) -> Iterator[Disk]:
    """Such a file system at `path`, or where there are no loop devices one that is never slow."""
    image = path.with_name(f"{path.name}.image")
    path.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    make = ["mkfs.ext4", "-q", "-m", "0", "-i", "4096", str(image)]
    mount = ["mount", "-o", "loop,noatime", str(image), str(path)]
    if not all(_runs(command) for command in (make, mount)):
        image.unlink()
        with small_disk(path, megabytes) as disk:
            yield disk
        return
    try:
        shutil.rmtree(path / "lost+found")
        yield SlowableDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False)
        image.unlink()


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
