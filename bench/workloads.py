"""The loads: five of Debian's smtp-source (postfix)."""

from __future__ import annotations

import base64
import contextlib
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.support.net import HOST

_HEADER: Final = """\
From: Bench <bench@client.example>
To: Somebody <somebody@server.example>
Subject: load
Date: Mon, 5 Jan 2026 10:00:00 +0000
Message-ID: <load@client.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii
Content-Transfer-Encoding: base64

"""


@dataclass(frozen=True)
class Workload:
    """`mails` of `size` bytes over `sessions` parallel connections, beside `idle` silent ones, each to so
    many `recipients`."""

    name: str
    what: str
    size: int
    sessions: int
    mails: int
    reuse: bool
    idle: int = 0
    recipients: int = 1

    def scaled(self, factor: float) -> Workload:
        """The same with fewer or more mails; at least one for each session."""
        return replace(self, mails=max(self.sessions, round(self.mails * factor)))

    def command(self, mail: Path, port: int) -> list[str]:
        """The smtp-source call."""
        source = shutil.which("smtp-source", path="/usr/sbin:/usr/bin:/bin")
        if source is None:
            raise SystemExit(
                "smtp-source is missing: install Debian's postfix package (do not start its daemon)"
            )
        keep = ["-d"] if self.reuse else []
        load = ["-s", str(self.sessions), "-m", str(self.mails), "-F", str(mail)]
        many = ["-r", str(self.recipients)] if self.recipients > 1 else []
        ends = ["-f", "bench@client.example", "-t", "somebody@server.example", "-M", "client.example"]
        return [source, *keep, *many, *load, *ends, f"{HOST}:{port}"]


ALL: Final = {
    each.name: each
    for each in (
        Workload("i", "5 KB, one per connection, 20 sessions", 5_000, 20, 4_000, reuse=False),
        Workload("ii", "5 KB, many per connection, 20 sessions", 5_000, 20, 8_000, reuse=True),
        Workload("iii", "1 MB base64, 10 sessions", 1_000_000, 10, 300, reuse=True),
        Workload("iv", "20 MB, 4 sessions", 20_000_000, 4, 16, reuse=True),
        Workload("v", "as ii, with 1,000 idle connections", 5_000, 20, 8_000, reuse=True, idle=1_000),
    )
}


def write_mail(folder: Path, size: int) -> Path:
    """A file of about `size` bytes, the same in every run: a header and a base64 body."""
    path = folder / f"mail-{size}.eml"
    if not path.exists():
        noise = random.Random(size).randbytes((size - len(_HEADER)) * 3 // 4)
        path.write_text(_HEADER + base64.encodebytes(noise).decode())
    return path


@contextlib.contextmanager
def idle_connections(count: int, port: int) -> Iterator[None]:
    """Connections that only say EHLO."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection((HOST, port), timeout=30))
            connection.recv(1024)
            connection.sendall(b"EHLO idle.example\r\n")
            connection.recv(1024)
        yield


def run(workload: Workload, mail: Path, port: int, *, cpu: int | None) -> None:
    """Send it all. Raises CalledProcessError if a mail was refused."""
    with sending(workload, mail, port, cpu=cpu) as sender:
        sender.wait(600)


@contextlib.contextmanager
def sending(
    workload: Workload, mail: Path, port: int, *, cpu: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """The sender, started. It is waited for, or killed if the block fails. Raises CalledProcessError if a
    mail was refused."""
    command = workload.command(mail, port)
    if cpu is not None:
        command = ["taskset", "-c", str(cpu), *command]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as sender:
        try:
            yield sender
            if sender.wait(600):
                raise subprocess.CalledProcessError(sender.returncode, command)
        except BaseException:
            sender.kill()
            raise
