"""The folders that the image's entry point looks at, and the user that it becomes. tests/e2e runs it
for real."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from listener.cli.entrypoint import Owner, drop, mounted_folders, new_owner


def line(place: Path | str, options: str = "rw,relatime") -> bytes:
    """A line of mountinfo, which writes spaces in octal."""
    escaped = str(place).replace("\\", "\\134").replace(" ", "\\040")
    return f"36 35 98:0 /mnt {escaped} {options} master:1 - ext4 /dev/sda1 rw".encode()


def test_writable_folders_below_the_working_folder(tmp_path: Path) -> None:
    odd = tmp_path / "with space, é and \\"
    read_only = tmp_path / "configs"
    file = tmp_path / "relay.jsonc"
    for folder in (odd, read_only):
        folder.mkdir()
    file.touch()
    lines = [line("/"), line("/proc"), line(odd), line(read_only, "ro,relatime"), line(file), line(odd)]
    assert mounted_folders(lines, tmp_path) == [odd]


def test_the_working_folder_itself(tmp_path: Path) -> None:
    beside = tmp_path.with_name(tmp_path.name + "-2")
    beside.mkdir()
    assert mounted_folders([line(tmp_path), line(beside)], tmp_path) == [tmp_path]


@pytest.mark.parametrize("text", [b"", b"36 35", b"36 35 98:0 / /nowhere/at/all rw - ext4 x rw"])
def test_lines_that_say_nothing(text: bytes, tmp_path: Path) -> None:
    assert mounted_folders([text], tmp_path) == []


def test_nothing_mounted() -> None:
    assert new_owner([]) == Owner(10025, 10025)


def test_the_first_owner_that_is_not_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's folders are given to that user; a file system that refuses this only causes a message."""
    stats = {Path("/first"): (0, 0), Path("/second"): (1000, 1001), Path("/third"): (2000, 2000)}
    given: list[tuple[Path, int, int]] = []

    def chown(path: Path, user: int, group: int) -> None:
        given.append((path, user, group))
        raise PermissionError(1, "no")

    def status(path: Path) -> os.stat_result:
        user, group = stats[path]
        return os.stat_result((0o40755, 0, 0, 1, user, group, 0, 0, 0, 0))

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(Path, "stat", status)
    assert new_owner(list(stats)) == Owner(1000, 1001)
    assert given == [(Path("/first"), 1000, 1001)]


def test_a_container_that_may_not_change_users(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def setgroups(groups: list[int]) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "setgroups", setgroups)
    with pytest.raises(SystemExit) as ended:
        drop(Owner(1, 1), Path("/"))
    assert ended.value.code == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert "--user" in told
