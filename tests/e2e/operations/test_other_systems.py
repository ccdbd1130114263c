"""A laptop without Linux: the server and its commands run with every call hidden that only Linux has."""

from __future__ import annotations

import os
import smtplib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.mails.stored import strip_added_fields
from tests.support.net import HOST, wait_until
from tests.support.process import tree
from tests.support.servers import without_linux
from tests.support.servers.relay import ROOT, Relay, flow

SMALL = b"Subject: small\r\n\r\nsmall\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"large\r\n" * 40_000


class Elsewhere(Relay):
    """The server on a system that is not Linux."""

    def command_for(self, *configuration: Path) -> list[str]:  # type: ignore[override]
        return [sys.executable, without_linux.__file__, "serve", *map(str, configuration)]

    def command(self) -> Sequence[str]:
        super().command()
        return self.command_for(self.path)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of the other commands, in the server's folder."""
        return subprocess.run(
            [sys.executable, without_linux.__file__, *arguments],
            cwd=self.folder,
            env={**self.environment(), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


class MacOS(Elsewhere):
    """It has F_FULLFSYNC."""

    @property
    def full_syncs(self) -> Path:
        return self.folder / "full-syncs"

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "FULL_SYNCS": str(self.full_syncs)}


def send(relay: Relay, *mails: bytes) -> None:
    for mail in mails:
        with smtplib.SMTP(HOST, relay.port, timeout=60) as client:
            client.sendmail("a@client.example", "b@server.example", mail)


def test_all_that_is_hidden_is_there_on_linux_and_gone_without_it() -> None:
    names = [f"{module}.{name}" for module, each in without_linux.MISSING.items() for name in each]
    code = (
        "import importlib, sys; from tests.support.servers.without_linux import hide; hide()\n"
        "for name in sys.argv[1:]:\n"
        "    module, _, attribute = name.partition('.')\n"
        "    assert not hasattr(importlib.import_module(module), attribute), name\n"
        "try: open('/proc/self/stat')\n"
        "except FileNotFoundError: pass\n"
        "else: raise AssertionError('/proc is there')\n"
    )
    subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, check=True, timeout=60)
    for needed in (
        "os.fdatasync",
        "os.memfd_create",
        "os.posix_fadvise",
        "fcntl.F_OFD_SETLK",
        "socket.SO_REUSEPORT",
    ):
        module, _, attribute = needed.partition(".")
        assert hasattr(__import__(module), attribute)


@pytest.mark.parametrize("kind", [Elsewhere, MacOS])
@pytest.mark.parametrize("workers", [1, 2])
def test_it_serves_stops_and_takes_up_its_spool(tmp_path: Path, kind: type[Elsewhere], workers: int) -> None:
    both = flow(filename="${id}.eml", retention={"count": 50})
    both["outputs"].append({"type": "file", "path": "{folder}/second", "filename": "${id}.eml"})
    config: dict[str, Any] = {
        "flows": {"all": both},
        "workers": workers,
        "prometheus": {"portNumber": 0, "nodeMetrics": True},
    }
    relay = kind(tmp_path, config).start()
    try:
        for _ in range(3):
            send(relay, SMALL, LARGE)
        wait_until(lambda: len(relay.files()) == 6, seconds=30, what="six mails")
        if workers == 2:
            workers_alive = tree(relay.pid)
            assert len(workers_alive) >= 3
        assert relay.stop() == 0
        relay.start()
        send(relay, SMALL, LARGE)
        relay.kill()  # what is in the spool then is delivered by the next one
        relay.start()
        send(relay, SMALL)
        wait_until(lambda: len(relay.files()) == 9, seconds=30, what="nine mails")
        second = sorted((relay.folder / "second").iterdir())
        wait_until(lambda: len([p for p in second if p.suffix == ".eml"]) == 9, seconds=30, what="the copies")
        assert sorted(strip_added_fields(mail) for mail in relay.mails()) == [LARGE] * 4 + [SMALL] * 5
    finally:
        assert relay.stop() == 0
    assert "Traceback" not in relay.log(), relay.log()
    if isinstance(relay, MacOS):
        assert relay.full_syncs.read_text().count("sync") > 9


@pytest.mark.parametrize("workers", [1, 2])
def test_starttls_and_secure_ports_have_their_certificate(tmp_path: Path, workers: int) -> None:
    relay = Elsewhere(tmp_path, {"workers": workers}).start()
    try:
        with smtplib.SMTP(HOST, relay.port, timeout=60) as client:
            client.starttls()
            client.sendmail("a@client.example", "b@server.example", SMALL)
        assert len(relay.files()) == 1
    finally:
        assert relay.stop() == 0
    assert "Traceback" not in relay.log()


def test_a_retention_limit_is_kept(tmp_path: Path) -> None:
    relay = Elsewhere(
        tmp_path, {"flows": {"all": flow(filename="${id}.eml", retention={"count": 2})}}
    ).start()
    try:
        send(relay, *[SMALL] * 5)
        wait_until(lambda: len(relay.files()) == 2, seconds=30, what="two mails")
    finally:
        assert relay.stop() == 0


def test_the_other_commands_run(tmp_path: Path) -> None:
    relay = Elsewhere(tmp_path, {}).start()
    try:
        for arguments in (
            ("check", str(relay.path)),
            ("--version",),
            ("hash-password", "--help"),
            ("deadletter", "list", "-c", str(relay.path)),
            ("sweep", "-c", str(relay.path)),
            ("schema",),
            ("send", "--help"),
        ):
            done = relay.run(*arguments)
            assert "Traceback" not in done.stderr, (arguments, done.stderr)
            assert done.returncode in (0, 2), (arguments, done.stdout, done.stderr)
    finally:
        assert relay.stop() == 0


def test_a_reload_of_several_workers_keeps_serving(tmp_path: Path) -> None:
    relay = Elsewhere(tmp_path, {"workers": 2}).start()
    try:
        relay.config["options"]["banner"] = "changed"
        relay.command()
        os.kill(relay.pid, 1)
        wait_until(lambda: relay.log().count("configuration read again") >= 2, seconds=30, what="the reload")
        send(relay, SMALL)
        assert len(relay.files()) == 1
    finally:
        assert relay.stop() == 0
    assert "Traceback" not in relay.log()
