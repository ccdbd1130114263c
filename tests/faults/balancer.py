"""HAProxy before two relays, and clients that count failures."""

from __future__ import annotations

import smtplib
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.clients.load import numbered
from tests.support.clients.wire import Wire, stuffed
from tests.support.net import HOST, answers, free_port, wait_until
from tests.support.programs import program

_CONFIG: Final = """\
global
  maxconn 400
  stats socket {folder}/stats level admin
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout check 2s
  retries 3
  option redispatch
frontend in
  bind {host}:{port}
  default_backend relays
backend relays
  balance roundrobin
  option httpchk GET /healthz
"""


class Balancer:
    """A running HAProxy on `port`; `servers` are ports of SMTP and health by name."""

    def __init__(self, folder: Path, servers: Mapping[str, tuple[int, int]]) -> None:
        self.folder = folder
        self.port = free_port()
        text = _CONFIG.format(folder=folder, host=HOST, port=self.port)
        for name, (smtp, health) in servers.items():
            text += (
                f"  server {name} {HOST}:{smtp} send-proxy-v2 check port {health} inter 100ms fall 1 rise 1\n"
            )
        (folder / "haproxy.cfg").write_text(text)

    def command(self, line: str) -> str:
        """Send a command to its socket; returns the answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.folder / "stats"))
            sock.sendall(line.encode() + b"\n")
            return b"".join(iter(lambda: sock.recv(65_536), b"")).decode()

    def row(self, name: str) -> list[str]:
        """Its facts about one server, as `show stat` gives them: [4] open sessions, [17] status."""
        lines = self.command("show stat").splitlines()
        return next(line for line in lines if line.startswith(f"relays,{name},")).split(",")

    def wait_up(self, name: str) -> None:
        """Wait until the health check passes."""
        wait_until(
            lambda: self.row(name)[17].startswith("UP"), seconds=20, what=f"{name} to be UP", every=0.05
        )


@contextmanager
def haproxy(folder: Path, servers: Mapping[str, tuple[int, int]]) -> Iterator[Balancer]:
    """Run one before these servers."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Balancer(folder, servers)
    with (folder / "haproxy.log").open("wb") as log:
        command = [program("haproxy", "haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        # HAProxy listens on its port before it gives its socket its name.
        wait_until(lambda: answers(made.port) and (folder / "stats").exists(), seconds=10, what="HAProxy")
        yield made
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class Tally:
    """The results of the clients' transactions."""

    delivered: set[int] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    reconnected: int = 0
    """Connections that ended with 421 between two mails, as RFC 5321 section 3.8 has it."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0

    def number(self) -> int:
        with self._lock:
            self._next += 1
            return self._next


@contextmanager
def clients(port: int, tally: Tally, count: int) -> Iterator[None]:
    """Keep clients busy: half with a connection for each mail, half with many mails on one."""
    stop = threading.Event()

    def work(kind: int) -> None:
        while not stop.is_set():
            try:
                (_once if kind % 2 else _many)(port, tally, stop)
            except Exception as error:
                tally.failed.append(f"{'one mail' if kind % 2 else 'many mails'}: {error!r}")

    threads = [threading.Thread(target=work, args=(kind,), daemon=True) for kind in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def _once(port: int, tally: Tally, stop: threading.Event) -> None:
    """As most applications do it: connect, send, QUIT, and any surprise is an error."""
    number = tally.number()
    with smtplib.SMTP(HOST, port, "client.example", timeout=20) as client:
        client.sendmail("a@client.example", ["b@server.example"], numbered(number))
        tally.delivered.add(number)


def _many(port: int, tally: Tally, stop: threading.Event) -> None:
    """As a mail server does it: a 421 between two mails means another connection, nothing else."""
    with Wire(port, patience=20) as wire:
        assert wire.greet().code == 250
        for _ in range(200):
            if stop.is_set():
                break
            number = tally.number()
            reply = wire.command("MAIL FROM:<a@client.example>")
            if reply.code == 421:
                tally.reconnected += 1
                return
            assert reply.code == 250, reply
            reply = wire.command("RCPT TO:<b@server.example>")
            assert reply.code == 250, reply
            reply = wire.command("DATA")
            assert reply.code == 354, reply
            wire.send(stuffed(numbered(number)))
            reply = wire.reply()
            assert reply.code == 250, reply
            tally.delivered.add(number)
        wire.command("QUIT")
