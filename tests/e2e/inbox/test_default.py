"""The inbox of a server that runs without a configuration file."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.support.clients.wire import submit
from tests.support.net import HOST, free_port, wait_until
from tests.support.servers.relay import ROOT

MAIN = "import sys; from listener.cli.main import main; sys.exit(main(sys.argv[1:]))"
WITHOUT_EXTRA = f"import sys; sys.modules['uvicorn'] = None; {MAIN}"


@contextmanager
def serving(folder: Path, *arguments: str, program: str = MAIN, **environ: str) -> Iterator[tuple[int, Path]]:
    """A server on a free port; its port and its log."""
    port, log = free_port(), folder / "log"
    command = [sys.executable, "-P", "-c", program, "serve", *arguments, "--port", str(port)]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            stdout=output,
            stderr=output,
        ) as server,
    ):
        try:
            wait_until(
                lambda: "stop with Ctrl-C" in log.read_text() or server.poll() is not None,
                seconds=60,
                what="the start",
            )
            yield port, log
            assert server.poll() is None, log.read_text()
        finally:
            with suppress(ProcessLookupError):
                server.send_signal(signal.SIGINT)
            server.wait(60)


def shown(log: Path) -> str:
    """The address of the inbox."""
    found = re.search(r"inbox: (http://localhost:\d+)$", log.read_text(), re.MULTILINE)
    assert found is not None, log.read_text()
    return found[1]


def test_it_shows_the_first_mail(tmp_path: Path) -> None:
    with serving(tmp_path) as (port, log):
        assert submit(port, b"Subject: first\r\n\r\nx\r\n").code == 250
        found = httpx.get(f"{shown(log)}/api/v1/wait?query=first&timeout=20").json()
        assert found["Subject"] == "first"
        assert "<title>Inbox</title>" in httpx.get(shown(log)).text


def test_a_taken_port_gives_way_to_the_next_free_one(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with serving(tmp_path) as (_, log), serving(tmp_path / "other") as (_, other):
        first, second = (int(shown(each).rpartition(":")[2]) for each in (log, other))
        # Servers of other tests come and go meanwhile, so the lower port may become free.
        assert first != second
        assert {first, second} <= set(range(8025, 8046))
        for address in (shown(log), shown(other)):
            assert httpx.get(f"{address}/livez").text == "ok"


def test_without_the_packages_it_starts_and_says_so_in_a_line(tmp_path: Path) -> None:
    with serving(tmp_path, program=WITHOUT_EXTRA) as (port, log):
        assert submit(port, b"Subject: x\r\n\r\nx\r\n").code == 250
        (line,) = [line for line in log.read_text().splitlines() if "inbox" in line]
        assert line.endswith("no inbox: package uvicorn is missing (pip install 'smtp-relay[inbox]')")


@pytest.mark.parametrize("asked", ["flag", "file"])
def test_where_it_was_asked_for_its_packages_must_be_there(tmp_path: Path, asked: str) -> None:
    arguments = ["--inbox"]
    if asked == "file":
        output = {"type": "file", "path": "mails", "addRawHeaders": True}
        config = {"flows": {"all": {"outputs": [output]}}, "inbox": {}, "port": free_port()}
        (tmp_path / "relay.json").write_text(json.dumps(config))
        arguments = ["relay.json"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_EXTRA, "serve", *arguments, "--port", str(free_port())],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "inbox: package uvicorn is missing (pip install 'smtp-relay[inbox]')"
    )
    assert "Traceback" not in done.stderr


def test_a_socket_that_listens_is_left_alone(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # another server of these tests has it
            taken.bind((HOST, 8025))
            taken.listen()
        with serving(tmp_path) as (_, log):
            assert not shown(log).endswith(":8025")
