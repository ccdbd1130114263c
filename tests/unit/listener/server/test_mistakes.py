"""What a server would fail at, found without a server: folders, addresses, what is left behind."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from functions.options.secrets import Runtime
from listener.config.load import load
from listener.server.mistakes import attempt, unusable


def tried(folder: Path, **keys: Any) -> list[str]:
    """The errors of one attempt."""
    config = load(None, {"SMTP_RELAY_CONFIG_JSON": json.dumps({"flows": {}, **keys})})
    return [str(each) for each in attempt(config, Runtime.of(folder, {})).errors]


def test_a_folder_that_can_be_made_is_usable_and_not_made(tmp_path: Path) -> None:
    assert unusable(tmp_path / "new" / "folder") == ""
    assert not list(tmp_path.iterdir())
    assert unusable(tmp_path / "new", may_be_made=False) == "No such file or directory"


def test_a_file_and_a_dead_link_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dead").symlink_to(tmp_path / "gone")
    assert unusable(tmp_path / "file") == "Not a directory"
    assert unusable(tmp_path / "file" / "below") == "Not a directory"
    assert unusable(tmp_path / "dead") == "No such file or directory"


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "localhost", "*", "::"])
def test_addresses_of_this_machine(tmp_path: Path, bind: str) -> None:
    assert tried(tmp_path, bind=bind, port=0) == []


@pytest.mark.parametrize("bind", ["192.0.2.1", "no-such-host.invalid", "127.0.0.1:25"])
def test_addresses_of_other_machines(tmp_path: Path, bind: str) -> None:
    (error,) = tried(tmp_path, bind=bind, port=0)
    assert error.startswith("SMTP_RELAY_CONFIG_JSON: bind: ")
    assert "is not an address of this machine" in error


def test_a_port_in_use_is_no_mistake_and_none_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that uses it may be the one of this configuration."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        def never(*_: Any) -> None:
            raise AssertionError("a port is opened")

        monkeypatch.setattr(socket.socket, "bind", never, raising=False)
        assert tried(tmp_path, port=port) == []
    assert not list(tmp_path.iterdir())
