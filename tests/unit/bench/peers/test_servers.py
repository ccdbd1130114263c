"""Peers are started with their own configuration, and each is counted where it keeps its mails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

import pytest

from bench import measure
from bench.peers import install
from bench.peers.servers import GoSmtp, Haraka, MailDev, Mailpit, MailpitRunning, Sink, Stock
from bench.servers import Server
from bench.workloads import ALL, Workload
from tests.support.net import HOST
from tests.support.programs import program

PEERS: Final = (Stock("stock"), Sink("sink"), GoSmtp("go"), Haraka("Haraka"), MailDev("MailDev"))


def is_here(server: Server) -> bool:
    """True if the peer starts without an installation, which tests do not do."""
    if isinstance(server, GoSmtp):
        return (install.INSTALLED / "gosmtp").exists() and install.DEBIAN_GO.is_dir()
    if isinstance(server, Haraka | MailDev):
        return (install.INSTALLED / "npm" / "node_modules" / ".package-lock.json").exists()
    return True


ROUNDS: Final = [
    pytest.param(server, fsync, id=f"{server.name}{'-fsync' * fsync}")
    for server in PEERS
    for fsync in (False, True)
    if is_here(server) and (server.syncs or not fsync)
]


@pytest.mark.parametrize(("server", "fsync"), ROUNDS)
def test_a_round_counts_and_times_every_mail(
    server: Server, fsync: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("smtp-source", "postfix")
    monkeypatch.setattr(measure, "_calm", lambda folder: None)  # how quick files are does not matter here
    load = Workload("few", "", 5_000, 2, 20, reuse=True)
    found = measure.one_round(server, load, tmp_path / "round", fsync=fsync, pin=False, timed=3)
    assert found.mails == 20
    assert found.alone is not None
    assert found.loaded is not None
    assert found.alone.mails == 12
    assert 0 < found.alone.p50 <= found.alone.p99
    assert found.loaded.mails >= 4


def test_only_a_very_slow_server_gets_fewer_mails_and_only_of_large_ones() -> None:
    assert MailDev("MailDev").given(ALL["iii"]).mails == ALL["iii"].mails // 10
    assert MailDev("MailDev").given(ALL["ii"]) == ALL["ii"]
    assert Haraka("Haraka").given(ALL["iv"]) == ALL["iv"]


def test_mailpit_is_counted_over_its_interface(tmp_path: Path) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"total": 42, "unread": 3, "messages": []}'
            self.send_response(200 if self.path == "/api/v1/messages?limit=1" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer((HOST, 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            assert MailpitRunning(ended, tmp_path, files=True, web=server.server_port).arrived() == 42
        thread.join()


def test_mailpit_listens_on_loopback_and_keeps_every_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "bin" / "mailpit"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\nenv\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary.parent}{os.pathsep}{os.environ['PATH']}")
    command = Mailpit("Mailpit")._command(tmp_path, tmp_path, 2525, fsync=False)
    settings = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    web = (tmp_path / ".web").read_text()
    assert {
        f"MP_SMTP_BIND_ADDR={HOST}:2525",
        f"MP_UI_BIND_ADDR={HOST}:{web}",
        f"MP_DATABASE={tmp_path}/mailpit.db",
        "MP_MAX_MESSAGES=0",
    } <= set(settings)
