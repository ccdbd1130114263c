"""Syncs of systems that differ from Linux."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from functions.processors.file import fsync


class Calls:
    """The calls that reach the system; `refusal` is the error of F_FULLFSYNC."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.refusal = 0
        monkeypatch.setattr(os, "fsync", lambda fd: self.made.append("fsync"))
        monkeypatch.setattr(os, "fdatasync", lambda fd: self.made.append("fdatasync"))
        monkeypatch.setattr(fcntl, "fcntl", self.control)

    def control(self, fd: int, command: int) -> int:
        assert command == 51
        if self.refusal:
            raise OSError(self.refusal, os.strerror(self.refusal))
        self.made.append("full")
        return 0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_linux_syncs_data_and_files(calls: Calls) -> None:
    fsync.sync_fd(0)
    fsync.sync_data(0)
    assert calls.made == ["fsync", "fdatasync"]


def test_without_fdatasync_the_whole_file_is_synced(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsync, "_HAS_FDATASYNC", False)
    monkeypatch.delattr(os, "fdatasync")
    fsync.sync_data(0)
    assert calls.made == ["fsync"]


def test_macos_flushes_the_disk_as_well(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fsync, "_FULL", 51)
    (tmp_path / "file").touch()
    fsync.sync_fd(0)
    fsync.sync_data(0)
    fsync.sync_file(tmp_path / "file")
    assert calls.made == ["full"] * 4


@pytest.mark.parametrize("refusal", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_file_system_without_it_is_synced_as_it_can(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    monkeypatch.setattr(fsync, "_FULL", 51)
    calls.refusal = refusal
    fsync.sync_fd(0)
    fsync.sync_data(0)
    assert calls.made == ["fsync", "fdatasync"]


def test_a_failure_of_the_disk_is_told(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsync, "_FULL", 51)
    calls.refusal = errno.EIO
    with pytest.raises(OSError, match="Input/output") as caught:
        fsync.sync_fd(0)
    assert fsync.sync_failed(caught.value)
    assert calls.made == []
