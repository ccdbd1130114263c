"""The measured server: this relay. bench/peers/servers.py has those of others."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from bench.workloads import Workload
from tests.support import process
from tests.support.net import HOST, answers, wait_until

ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass
class Running:
    """A started server: the root of its process tree, and the folder of its mails."""

    process: subprocess.Popen[bytes]
    received: Path
    files: bool

    def arrived(self) -> int:
        """The number of mails in the folder under their final names."""
        return sum(1 for entry in os.scandir(self.received) if not entry.name.startswith("."))

    def task(self) -> int:
        """The number of mails in the relay's spool; 0 for servers without a spool."""
        total = 0
        for database in (self.received.parent / "spool").rglob("spool.db"):
            with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as spool:
                total += spool.execute("SELECT count(*) FROM mail").fetchone()[0]
        return total

    def cpu_seconds(self) -> float:
        """CPU time used so far."""
        return process.cpu_seconds(self.process.pid)

    def stop(self) -> None:
        """End the server by SIGTERM, after a while by SIGKILL."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class Server:
    """One column of the comparison: this relay, or a peer that overrides what differs. `sending` adds a
    `sending-policy`; `root` is the checkout whose code runs."""

    syncs: ClassVar[bool] = True
    """Whether it can sync a mail before it answers."""

    name: str
    workers: int = 1
    sending: bool = False
    root: Path = field(default=ROOT)

    def ready(self) -> None:
        """Build or install what it runs, once. Raises `bench.peers.install.Missing`."""

    def given(self, load: Workload) -> Workload:
        """The load as this server gets it: with fewer mails if it is very slow on them."""
        return load

    @property
    def about(self) -> str:
        """Program and version, and how it stores: for the page of results."""
        policy = " with a sending-policy" if self.sending else ""
        workers = f" with {self.workers} processes" if self.workers > 1 else ""
        return f"this server{policy}{workers}: flows, envelope, log line, spool, file output"

    def start(self, work: Path, port: int, *, fsync: bool, cpu: int | None) -> Running:
        """Start in an empty folder and wait until it accepts connections."""
        received = work / "received"
        received.mkdir(parents=True)
        command = self._command(work, received, port, fsync=fsync)
        if cpu is not None:
            command = ["taskset", "-c", str(cpu), *command]
        with (work / "server.log").open("wb") as log:
            started = subprocess.Popen(
                command,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(lambda: started.poll() is not None or answers(port), seconds=30, what=self.name)
            if started.poll() is not None:
                raise RuntimeError(f"{self.name} ended at start:\n{(work / 'server.log').read_text()}")
        except BaseException:
            started.kill()
            raise
        return self.running(started, received)

    @property
    def files(self) -> int:
        """The number of files that one mail becomes."""
        return 1

    def running(self, process: subprocess.Popen[bytes], received: Path) -> Running:
        """The started server."""
        return Running(process, received, files=True)

    def config(self, work: Path, received: Path, port: int, *, fsync: bool) -> dict[str, Any]:
        """The relay's configuration."""
        return relay_config(work, received, port, fsync=fsync, workers=self.workers, sending=self.sending)

    def _command(self, work: Path, received: Path, port: int, *, fsync: bool) -> Sequence[str]:
        config = work / "relay.json"
        config.write_text(json.dumps(self.config(work, received, port, fsync=fsync)))
        # A checkout from before the rooms, for --against, has one module there.
        rooms = (self.root / "listener" / "cli" / "main.py").exists()
        return [sys.executable, "-m", "listener.cli.main" if rooms else "listener.cli", str(config)]


def relay_config(
    work: Path, received: Path, port: int, *, fsync: bool, workers: int, sending: bool = False
) -> dict[str, Any]:
    """The whole pipeline: a filter, with `sending` a guard of senders and limits, a log line for each mail,
    the spool, the file output."""
    rule = {"ip": "127.0.0.0/8", "from": "glob:*@*", "limits": ["100000000/day", "1000/mail"]}
    guards = [{"type": "sending-policy", "rules": [rule]}] if sending else []
    return {
        "port": port,
        "bind": HOST,
        "workers": workers,
        "spool": {"url": f"file://{work}/spool", "durability": "fsync" if fsync else "none"},
        "flows": {
            "bench": {
                "filters": [{"type": "whitelist", "ips": [HOST]}, *guards],
                "outputs": [{"type": "file", "path": str(received)}],
            }
        },
        "options": {
            "authOptional": True,
            "disableReverseLookup": True,
            "loggers": [{"type": "FILE", "level": "INFO", "filepath": str(work / "relay.log")}],
        },
    }
