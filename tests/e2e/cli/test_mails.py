"""`mails` beside a running server: what it stored, what comes, and what may be deleted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.wire import submit
from tests.support.net import HOST, PATIENCE, answers, free_port, wait_until
from tests.support.servers.relay import ROOT, Relay, flow
from tests.support.servers.smarthost import smarthost

MAIL = b"From: app@h.example\r\nTo: ann@h.example\r\nSubject: Reset your password\r\n\r\n123456\r\n"


def command(relay: Relay, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "listener.cli.main", *arguments]


def environment(relay: Relay) -> dict[str, str]:
    return {**relay.environment(), "PYTHONPATH": str(ROOT)}


def run(relay: Relay, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """A command in the relay's working folder, which has its configuration."""
    done = subprocess.run(
        command(relay, *arguments),
        cwd=relay.folder,
        env=environment(relay),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def lines_of(done: subprocess.CompletedProcess[str]) -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def named(new_relay: Callable[..., Relay]) -> Callable[..., Relay]:
    """Starts a relay whose configuration commands find in the working folder."""

    def start(*outputs: dict[str, Any], **config: Any) -> Relay:
        flows = {"all": {**flow(filename="${iso8601}_${id}.eml")}}
        flows["all"]["outputs"] += outputs
        relay = new_relay({"flows": flows, **config}).start()
        (relay.folder / "smtp-relay.json").write_text(relay.path.read_text())
        return relay

    return start


def test_a_stored_mail_is_listed_shown_and_deleted(named: Callable[..., Relay]) -> None:
    relay = named()
    assert submit(relay.port, MAIL, "app@client.example", "ann@h.example").code == 250
    (found,) = lines_of(run(relay, "mails", "--json"))
    (path,) = relay.files()
    assert found["file"] == str(path)
    assert found["id"] in path.name
    assert found["subject"] == "Reset your password"
    assert "123456" in run(relay, "mails", "show").stdout
    assert run(
        relay, "mails", "show", found["id"][:20], "--raw"
    ).stdout.encode() == path.read_bytes().replace(b"\r\n", b"\n")
    wait_until(
        lambda: not lines_of(run(relay, "queue", "--json")), seconds=PATIENCE, what="the mail to be done"
    )
    assert run(relay, "mails", "delete", "latest", "--yes").stdout.endswith("1 deleted\n")
    assert relay.files() == []
    assert "is not in the spool" in run(relay, "queue", "explain", found["id"], status=1).stdout


def test_wait_ends_when_the_mail_comes_and_tail_shows_it(named: Callable[..., Relay]) -> None:
    relay = named()
    with ExitStack() as stack:
        waiting, following = (
            stack.enter_context(
                subprocess.Popen(
                    command(relay, "mails", *arguments),
                    cwd=relay.folder,
                    env=environment(relay),
                    stdout=subprocess.PIPE,
                    # A test that a shell runs in the background would hand on that SIGINT is ignored.
                    preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
                )
            )
            for arguments in (
                ("wait", "--to", "ANN@h.example", "--subject", "RESET", "--timeout", "100", "--json"),
                ("tail",),
            )
        )
        try:
            assert (
                submit(relay.port, MAIL.replace(b"ann", b"bob"), "a@b.example", "bob@h.example").code == 250
            )
            assert submit(relay.port, MAIL, "a@b.example", "ann@h.example").code == 250
            out, _ = waiting.communicate(timeout=PATIENCE)
            assert waiting.returncode == 0
            assert json.loads(out)["to"] == ["ann@h.example"]
            # It may have started after the first two mails.
            assert following.stdout is not None
            os.set_blocking(following.stdout.fileno(), False)
            shown = b""
            while b"Reset your password" not in shown:
                assert submit(relay.port, MAIL, "a@b.example", "ann@h.example").code == 250
                shown += following.stdout.read() or b""
            following.send_signal(signal.SIGINT)
            assert following.wait(PATIENCE) == 130
        finally:
            waiting.kill()
            following.kill()


def test_a_file_is_not_deleted_while_a_retry_could_write_it_again(named: Callable[..., Relay]) -> None:
    port = free_port()
    hop = {"type": "mailer", "name": "hop", "nodemailer": {"host": HOST, "port": port, "ignoreTLS": True}}
    relay = named(hop, delivery={"retry": {"first": 3_600_000, "max": 3_600_000}})
    assert submit(relay.port, MAIL, "a@b.example", "ann@h.example").code == 250
    (mail,) = lines_of(run(relay, "mails", "--json"))
    for words in ((mail["id"],), ("latest",), (mail["file"],), ("--all",)):
        refused = run(relay, "mails", "delete", *words, "--yes", status=1)
        assert "is still being delivered" in refused.stderr
    assert len(relay.files()) == 1
    with smarthost(port=port) as there:
        assert answers(port)
        run(relay, "queue", "retry", mail["id"])
        wait_until(lambda: len(there.taken) == 1, seconds=PATIENCE, what="the other output's delivery")
        wait_until(lambda: not lines_of(run(relay, "queue", "--json")), seconds=PATIENCE, what="the end")
        run(relay, "mails", "delete", mail["id"], "--yes")
        relay.restart()
        run(relay, "sweep", "smtp-relay.json")
        assert relay.files() == []
        assert len(there.taken) == 1


def test_open_serves_one_page_to_this_machine_and_ends(named: Callable[..., Relay]) -> None:
    relay = named()
    assert submit(relay.port, MAIL, "app@client.example", "ann@h.example").code == 250
    with subprocess.Popen(
        command(relay, "mails", "open", "--no-browser"),
        cwd=relay.folder,
        # A browser that is started would be seen, because there is none of that name.
        env={**environment(relay), "BROWSER": "/nonexistent/browser", "DISPLAY": ":0"},
        stdout=subprocess.PIPE,
    ) as page:
        try:
            assert page.stdout is not None
            url = page.stdout.readline().decode().strip()
            assert url.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                assert b"123456" in answer.read()
                assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none';")
            assert page.wait(PATIENCE) == 0
        finally:
            page.kill()
    assert "123456" in run(relay, "mails", "open").stdout  # without a terminal it is text


def test_without_a_configuration_the_folders_are_those_of_the_debug_server(tmp_path: Path) -> None:
    (tmp_path / "received_emails").mkdir()
    (tmp_path / "received_emails" / "x.eml").write_bytes(MAIL)
    done = subprocess.run(
        [sys.executable, "-m", "listener.cli.main", "mails", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert json.loads(done.stdout)["subject"] == "Reset your password"
    assert [path.name for path in tmp_path.iterdir()] == ["received_emails"]
