"""The servers of others as columns of the comparison."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.peers import install
from bench.servers import Running, Server
from bench.workloads import Workload
from tests.support.net import HOST, free_port


@dataclass(frozen=True)
class Sink(Server):
    """Postfix' smtp-sink, the ceiling."""

    syncs = False

    def ready(self) -> None:
        self._program()

    @property
    def about(self) -> str:
        return f"Postfix {install.debian_version('postfix')}, throws the mail away: no file is counted"

    def running(self, process: subprocess.Popen[bytes], received: Path) -> Running:
        return Running(process, received, files=False)

    def _program(self) -> str:
        return install.on_path(
            "smtp-sink", "install Debian's postfix package", path="/usr/sbin:/usr/bin:/bin"
        )

    def _command(self, work: Path, received: Path, port: int, *, fsync: bool) -> Sequence[str]:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        return [self._program(), *user, "-m", "4096", f"{HOST}:{port}", "2048"]


@dataclass(frozen=True)
class Stock(Server):
    """aiosmtpd with a handler that stores files."""

    @property
    def about(self) -> str:
        return (
            f"aiosmtpd {version('aiosmtpd')} on uvloop with a handler that writes each mail to a temporary "
            "file and renames it; with fsync it syncs file and folder"
        )

    def _command(self, work: Path, received: Path, port: int, *, fsync: bool) -> Sequence[str]:
        module = [sys.executable, "-m", "tests.support.servers.stock"]
        return [*module, str(port), str(received), *(["--fsync"] if fsync else [])]


@dataclass(frozen=True)
class GoSmtp(Server):
    """bench/peers/gosmtp: a small receiver on Go's library."""

    def ready(self) -> None:
        install.go_smtp()

    @property
    def about(self) -> str:
        library = install.debian_version("golang-github-emersion-go-smtp-dev")
        go = install.printed("go", "env", "GOVERSION")
        return f"go-smtp {library} on {go} with bench/peers/gosmtp, which stores as stock does, on all cores"

    def _command(self, work: Path, received: Path, port: int, *, fsync: bool) -> Sequence[str]:
        return [str(install.go_smtp()), str(port), str(received), *(["--fsync"] if fsync else [])]


@dataclass(frozen=True)
class Haraka(Server):
    """npm's Haraka with its own settings, but one plugin, bench/peers/haraka."""

    def ready(self) -> None:
        install.package("Haraka")

    @property
    def about(self) -> str:
        return (
            f"Haraka {install.package_version('Haraka')}, one process, its own settings and the one plugin "
            "bench/peers/haraka, which stores as stock does"
        )

    def _command(self, work: Path, received: Path, port: int, *, fsync: bool) -> Sequence[str]:
        home, place = install.package("Haraka"), work / "haraka"
        shutil.copytree(home / "config", place / "config")
        shutil.copytree(install.PEERS / "haraka", place, dirs_exist_ok=True)
        (place / "config" / "smtp.ini").write_text(f"listen={HOST}:{port}\nnodes=0\n")
        store = f"[main]\nfolder={received}\nfsync={str(fsync).lower()}\n"
        (place / "config" / "store.ini").write_text(store)
        return ["node", str(home / "bin" / "haraka"), "-c", str(place)]


@dataclass(frozen=True)
class MailDev(Server):
    """npm's MailDev, a catcher of mails for developers."""

    syncs = False

    def ready(self) -> None:
        install.package("maildev")

    @property
    def about(self) -> str:
        return (
            f"MailDev {install.package_version('maildev')} with a mail directory, without its web page; it "
            "also parses each mail and keeps all in memory, and cannot sync; of large mails it gets a tenth"
        )

    def given(self, load: Workload) -> Workload:
        return load.scaled(0.1) if load.size > 100_000 else load

    def _command(self, work: Path, received: Path, port: int, *, fsync: bool) -> Sequence[str]:
        script = install.package("maildev").parent / ".bin" / "maildev"
        place = ["--smtp", str(port), "--ip", HOST, "--mail-directory", str(received)]
        return ["node", str(script), *place, "--disable-web", "--silent"]


@dataclass
class MailpitRunning(Running):
    """A started Mailpit, whose interface tells the number of its mails."""

    web: int = 0

    def arrived(self) -> int:
        with urllib.request.urlopen(f"http://{HOST}:{self.web}/api/v1/messages?limit=1", timeout=30) as page:
            return int(json.load(page)["total"])


@dataclass(frozen=True)
class Mailpit(Server):
    """Mailpit, a catcher of mails for developers, if the path has it."""

    syncs = False

    def ready(self) -> None:
        self._program()

    @property
    def about(self) -> str:
        return (
            f"{install.printed(self._program(), 'version')} with a database on disk, counted over its "
            "interface; it cannot sync"
        )

    def running(self, process: subprocess.Popen[bytes], received: Path) -> Running:
        return MailpitRunning(process, received, files=True, web=int((received / ".web").read_text()))

    def _program(self) -> str:
        return install.on_path("mailpit", "install a release of github.com/axllent/mailpit")

    def _command(self, work: Path, received: Path, port: int, *, fsync: bool) -> Sequence[str]:
        web = free_port()
        (received / ".web").write_text(str(web))
        settings = {
            "MP_SMTP_BIND_ADDR": f"{HOST}:{port}",
            "MP_UI_BIND_ADDR": f"{HOST}:{web}",
            "MP_DATABASE": str(received / "mailpit.db"),
            "MP_MAX_MESSAGES": "0",
            "MP_DISABLE_VERSION_CHECK": "true",
            "MP_SMTP_DISABLE_RDNS": "true",
            "MP_QUIET": "true",
        }
        return ["env", *(f"{name}={value}" for name, value in settings.items()), self._program()]
