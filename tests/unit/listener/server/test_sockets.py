"""Ports that cannot be opened: the message says why, and what to type instead."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.errors import ConfigError
from listener.server.port_user import port_user
from listener.server.sockets import bind, close_all
from tests.support.net import HOST


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        held.listen()
        yield held.getsockname()[1]


def refused(host: str, port: int, *, only: bool = True) -> str:
    with pytest.raises(ConfigError) as caught:
        bind(host, port, shared=False, only=only)
    return str(caught.value)


def test_a_used_port_names_its_user_and_the_flag(taken: int) -> None:
    text = refused(HOST, taken)
    assert text.startswith(f"port {taken} on {HOST}: is in use by process {os.getpid()} (")
    assert text.endswith("(stop that, or use --port 2525)")


def test_a_used_port_of_several_is_changed_in_the_file(taken: int) -> None:
    text = refused(HOST, taken, only=False)
    assert "--port" not in text
    assert text.endswith("(stop that, or choose another port in listeners)")


def test_any_free_port_is_for_one_process() -> None:
    """Not even for one that would share it until either listens."""
    made = bind(HOST, 0, shared=False)
    try:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(made[0].getsockname())
    finally:
        close_all([made])


def test_the_proposed_port_is_another() -> None:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind((HOST, 2525))
            held.listen()
        except OSError:
            pass  # another program listens there, which is as good
        assert "--port 10025" in refused(HOST, 2525)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "x" * 70, "192.0.2.1", "300.1.1.1"])
def test_an_address_of_another_machine_names_the_flag(host: str) -> None:
    text = refused(host, 0)
    assert host in text
    assert "is not an address of this machine (use --bind 127.0.0.1" in text
    assert "--bind" not in refused(host, 0, only=False)


LISTENS = """\
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()  # a/secret
"""


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["listens.py", "an", "argument"], "listens.py"),
        (["-I", "./listens.py"], "listens.py"),
        (["-m", "listens"], "listens"),
        (["-c", LISTENS], Path(sys.executable).name),
        (["-Ic", LISTENS], Path(sys.executable).name),
    ],
)
def test_a_program_of_python_goes_by_its_script(tmp_path: Path, arguments: list[str], name: str) -> None:
    (tmp_path / "listens.py").write_text(LISTENS)
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert port_user(port) == f"process {process.pid} ({name})"


def test_a_port_that_is_free_has_no_known_user() -> None:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        assert port_user(probe.getsockname()[1]) == "another program"
