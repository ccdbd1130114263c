"""HAProxy (Debian) in front: the relay sees the client behind it, by PROXY version 1 and 2."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.clients.tls import encrypt, starttls
from tests.support.clients.wire import Wire
from tests.support.net import HOST, answers, free_port, wait_until
from tests.support.programs import program
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

CLIENT: Final = "127.0.0.5"
STRANGER: Final = "127.0.0.6"

_CONFIG: Final = """\
global
  maxconn 100
  stats socket {folder}/stats level admin
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout check 5s
frontend in
  bind {host}:{port}
  bind ::1:{port}
  default_backend relay
backend relay
  {check}
  server relay {host}:{relay} {send} check inter 200ms {extra}
"""


class Balancer:
    """A running HAProxy on `port`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    def status(self) -> str:
        """The relay's state in its health check: UP, DOWN …"""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.folder / "stats"))
            sock.sendall(b"show stat\n")
            table = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        row = next(line for line in table.splitlines() if line.startswith("relay,relay,"))
        return row.split(",")[17]


@contextmanager
def haproxy(folder: Path, relay: int, send: str, *, check: str = "", extra: str = "") -> Iterator[Balancer]:
    """Run one before the relay's port."""
    made = Balancer(folder)
    words = {"folder": folder, "host": HOST, "port": made.port, "relay": relay, "send": send}
    (folder / "haproxy.cfg").write_text(_CONFIG.format(**words, check=check, extra=extra))
    command = [program("haproxy", "haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(made.port), seconds=10, what="HAProxy")
        yield made
    finally:
        process.terminate()
        process.wait(10)


def connect(port: int, source: str) -> Wire:
    """A connection from another loopback address."""
    wire = Wire(port)
    wire.socket.close()
    host = "::1" if ":" in source else HOST
    wire.socket = socket.create_connection((host, port), timeout=15, source_address=(source, 0))
    return wire


@pytest.mark.parametrize(
    "send", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"]
)
@pytest.mark.parametrize("tls", ["", "STARTTLS", "implicit"])
def test_the_whitelist_sees_the_client(relay_for: Make, tmp_path: Path, send: str, tls: str) -> None:
    allowed = {"type": "whitelist", "ips": [CLIENT, "::1"]}
    relay = relay_for({"flows": {"in": flow(allowed)}}, useProxy=[HOST], secure=tls == "implicit")
    with haproxy(tmp_path, relay.port, send) as balancer:
        for client, field in ((CLIENT, b"[127.0.0.5]"), ("::1", b"[IPv6:::1]")):
            with connect(balancer.port, client) as wire:
                if tls == "implicit":
                    encrypt(wire)
                wire.greet()
                if tls == "STARTTLS":
                    starttls(wire)
                    wire.command("EHLO client.example")
                wire.envelope()
                wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
                assert wire.reply().code == 250
            (mail,) = relay.mails()
            assert b"Received: from client.example (" + field + b")" in mail
            relay.forget()
        with connect(balancer.port, STRANGER) as wire:
            if tls == "implicit":
                encrypt(wire)
            assert wire.reply().code == 554


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("check", ["", "option smtpchk EHLO balancer.example"])
def test_health_checks(relay_for: Make, tmp_path: Path, send: str, check: str) -> None:
    """They come as LOCAL (version 2) or UNKNOWN, from the balancer itself."""
    relay = relay_for(useProxy=[HOST])
    seen = len(relay.log())
    with haproxy(tmp_path, relay.port, send, check=check, extra="check-send-proxy") as balancer:
        time.sleep(1)
        assert balancer.status().startswith("UP")
    assert not re.search(r"WARN|ERROR", relay.log()[seen:]), "checks make no noise"


def test_without_the_header_the_balancer_is_the_client(relay_for: Make, tmp_path: Path) -> None:
    """The purpose of the option."""
    relay = relay_for({"flows": {"in": flow({"type": "whitelist", "ips": [CLIENT]})}})
    with haproxy(tmp_path, relay.port, "") as balancer, connect(balancer.port, CLIENT) as wire:
        assert wire.reply().code == 554


def test_clients_past_the_balancer(relay_for: Make, tmp_path: Path) -> None:
    """They speak SMTP at once, and cannot claim to be another client."""
    relay = relay_for({"flows": {"in": flow({"type": "whitelist", "ips": [CLIENT]})}}, useProxy=[HOST])
    with connect(relay.port, CLIENT) as wire:
        assert wire.greet().code == 250
    with connect(relay.port, STRANGER) as wire:
        wire.send(b"PROXY TCP4 127.0.0.5 127.0.0.1 1 25\r\n")
        assert wire.reply().code == 554
