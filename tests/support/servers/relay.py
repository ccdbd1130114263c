"""Servers under test as processes of their own: this relay, and stock aiosmtpd beside it."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.support import process
from tests.support.net import HOST, PATIENCE, answers, free_port, wait_until

ROOT: Final = Path(__file__).resolve().parents[3]

LOG_FORMAT: Final = "%(d)s [%(l)s] %(m)s"
"""Lines with all ids, for tests that follow a mail."""

_STOP: Final = 120.0
"""Seconds. `closeTimeout` is 30 of them, and a busy machine takes its time for the rest."""


class Server:
    """A server process with its own folder: `output` holds its output, `received` its mails. `code` is
    the folder of the code that it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = ROOT
        self.received = folder / "received"
        self.output = folder / "output.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str]:
        """The command to run."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Its environment."""
        return os.environ

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start without waiting for anything."""
        path = os.pathsep.join(filter(None, [str(self.code), os.environ.get("PYTHONPATH")]))
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env={**self.environment(), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def start(self) -> Self:
        """Start and wait until the port accepts connections. Raises RuntimeError with its output if it
        ends instead."""
        started = self.spawn()
        try:
            wait_until(
                lambda: started.poll() is not None or answers(self.port), seconds=PATIENCE, what="the port"
            )
        except BaseException:
            self.kill()
            raise
        if started.poll() is not None:
            raise RuntimeError(f"the server ended at start with {started.returncode}:\n{self.log()}")
        return self

    def stop(self) -> int:
        """SIGTERM, as an orchestrator would; returns the exit status. SIGKILL if it does not end."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL to the whole process group at once: a power cut, except for the page cache."""
        assert self.process is not None
        family = process.tree(self.process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        # A thread that waits for a disk dies when the disk answers, and its process has its files and
        # ports until then, with an empty command line if only the first thread is dead.
        wait_until(
            lambda: not any(process.command_line(pid) for pid in family) and not answers(self.port),
            seconds=20,
            what="all to be gone",
        )

    def restart(self) -> Self:
        """Start again in the same folder on the same port."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        return self.start()

    @property
    def pid(self) -> int:
        """The first process; workers are its children."""
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        """True if it runs."""
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """All it printed so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def files(self) -> list[Path]:
        """Received mails under their final names, in name order."""
        if not self.received.exists():
            return []
        return sorted(path for path in self.received.iterdir() if not path.name.startswith("."))

    def mails(self) -> list[bytes]:
        """Contents of `files()`."""
        return [path.read_bytes() for path in self.files()]

    def forget(self) -> None:
        """Remove the mails received so far."""
        for path in self.files():
            path.unlink()

    def resident(self) -> int:
        """Bytes resident now: the largest single process."""
        return max(process.resident(pid) for pid in process.tree(self.pid))

    def peak(self) -> int:
        """The most bytes that one of its processes had resident since `reset_peak`."""
        return max(process.peak_resident(pid) for pid in process.tree(self.pid))

    def reset_peak(self) -> None:
        process.reset_peak(self.pid)

    def cpu(self) -> float:
        """Seconds of CPU used so far, with its workers."""
        return process.cpu_seconds(self.pid)

    def open_files(self) -> int:
        """File descriptors held, over all its processes."""
        return sum(process.open_files(pid) for pid in process.tree(self.pid))


class Relay(Server):
    """This project's server on a configuration: `config` is laid over one flow that accepts all mail
    from loopback into `received`; `options` over the SMTP options. `{received}` and `{folder}` in its
    strings are replaced by this relay's own folders."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(folder)
        self._env = dict(env or {})
        self.config: dict[str, Any] = {
            "port": self.port,
            "bind": HOST,
            "spool": "file://{folder}/spool",
            "flows": {"all": flow()},
            "loggers": [{"type": "CONSOLE", "format": LOG_FORMAT}],
            "options": {"authOptional": True, "disableReverseLookup": True, **options},
        }
        for key, value in copy.deepcopy(dict(config or {})).items():
            if key == "options":
                self.config["options"] |= value
                if "loggers" in value:
                    del self.config["loggers"]
            else:
                self.config[key] = value

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self.folder / "relay.json"

    @property
    def spool(self) -> Path:
        """The default spool folder."""
        return self.folder / "spool"

    def command(self) -> Sequence[str]:
        text = json.dumps(self.config, indent=2)
        self.path.write_text(
            text.replace("{received}", str(self.received)).replace("{folder}", str(self.folder))
        )
        return self.command_for(self.path)

    @staticmethod
    def command_for(*configuration: Path) -> list[str]:
        """Serve a configuration, or the default one."""
        return [sys.executable, "-m", "listener.cli.main", "serve", *map(str, configuration)]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **self._env}


class Stock(Server):
    """Stock aiosmtpd with a filing handler; `flags` as tests.support.servers.stock takes them."""

    def __init__(self, folder: Path, *flags: str) -> None:
        super().__init__(folder)
        self._flags = flags

    def command(self) -> Sequence[str]:
        return [
            sys.executable,
            "-m",
            "tests.support.servers.stock",
            str(self.port),
            str(self.received),
            *self._flags,
        ]


def flow(*filters: Mapping[str, Any], operator: str = "AND", **file_options: Any) -> dict[str, Any]:
    """A flow into the relay's folder; without filters, one that accepts all mail from loopback."""
    return {
        "filters": list(filters) or [{"type": "whitelist", "ips": [HOST]}],
        "filtersOperator": operator,
        "outputs": [{"type": "file", "path": "{received}", **file_options}],
    }
