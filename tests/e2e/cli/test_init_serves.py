"""Configurations of `init`, served as processes: in a pipe, and at a terminal where a user answers."""

from __future__ import annotations

import os
import pty
import select
import time
from pathlib import Path

import pytest

from listener.cli.init.kinds import KINDS
from tests.e2e.cli.conftest import Run, Serve, command, environment
from tests.support.net import PATIENCE, wait_until
from tests.support.servers.relay import Relay

CLOUD = {
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "SMARTHOST_PASSWORD": "x",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
    "PUBSUB_EMULATOR_HOST": "127.0.0.1:1",
}


def test_the_debug_server_keeps_a_mail(typed: Serve, relay: Run, tmp_path: Path) -> None:
    assert relay("init").returncode == 0
    server = typed("smtp-relay.jsonc", "--port", "{port}").start()
    assert relay("send", "--port", str(server.port), "you@example.com").returncode == 0
    wait_until(lambda: any((tmp_path / "received_emails").iterdir()), seconds=PATIENCE, what="the mail")


def test_the_smarthost_gets_a_mail(typed: Serve, relay: Run, tmp_path: Path) -> None:
    smarthost = Relay(tmp_path / "smarthost").start()
    try:
        made = relay("init", "smarthost", "--host", f"127.0.0.1:{smarthost.port}", "--user", "-")
        assert (made.returncode, made.stderr) == (0, "")
        server = typed("serve", "--port", "{port}").start()
        assert relay("send", "--port", str(server.port), "you@example.com").returncode == 0
        wait_until(lambda: len(smarthost.mails()) == 1, seconds=PATIENCE, what="the mail")
        assert b"To: you@example.com" in smarthost.mails()[0]
    finally:
        smarthost.stop()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"debug", "smarthost"}])
def test_the_others_start_and_take_mail_of_nobody_else(typed: Serve, relay: Run, kind: str) -> None:
    assert relay("init", kind, "--output", "a.jsonc").returncode == 0
    server = typed("a.jsonc", "--port", "{port}", environ=CLOUD).start()
    if kind.startswith("mail2"):
        done = relay("send", "--port", str(server.port), "you@elsewhere.example")
        assert done.returncode == 1
        assert "refused: you@elsewhere.example: 550" in done.stderr


def test_a_pipe_asks_nothing(relay: Run, tmp_path: Path) -> None:
    done = relay("init", "mail2s3")
    assert (done.returncode, done.stderr) == (0, "")
    assert "[" not in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"smtp-relay.jsonc", ".env.example"}


class TestTerminal:
    def test_asks_what_is_not_given(self, tmp_path: Path) -> None:
        answers = ["my-mails\n", "My.Example\n"]
        status, shown = at_terminal(tmp_path, ["init", "mail2s3", "--region", "eu-west-3"], answers)
        assert status == 0
        assert "Prove it:" in shown
        assert "to be changed" not in shown
        text = (tmp_path / "smtp-relay.jsonc").read_text()
        assert '"bucket": "my-mails"' in text
        assert "@my\\\\.example" in text
        assert '"region": "eu-west-3"' in text

    def test_an_empty_answer_is_the_default(self, tmp_path: Path) -> None:
        status, shown = at_terminal(tmp_path, ["init", "mail2s3"], ["\n", "\n", "\n"])
        assert status == 0
        assert "to be changed: bucket my-inbound-mail, domain example.com" in shown

    def test_a_bad_answer_is_asked_again(self, tmp_path: Path) -> None:
        status, shown = at_terminal(tmp_path, ["init", "ses"], ["europe\n", "eu-west-3\n"])
        assert status == 0
        assert "--region: 'europe' is not a region of AWS" in shown
        assert '"region": "eu-west-3"' in (tmp_path / "smtp-relay.jsonc").read_text()

    def test_the_end_of_the_input_is_one_line(self, tmp_path: Path) -> None:
        status, shown = at_terminal(tmp_path, ["init", "ses"], ["\x04"])
        assert status == 2
        assert "the input ended" in shown
        assert "Traceback" not in shown
        assert list(tmp_path.iterdir()) == []

    def test_the_debug_server_needs_no_answer(self, tmp_path: Path) -> None:
        status, shown = at_terminal(tmp_path, ["init"], [])
        assert status == 0
        assert "]: " not in shown


def at_terminal(folder: Path, arguments: list[str], answers: list[str]) -> tuple[int, str]:
    """The program at a terminal, with an answer for each prompt; its exit status, and all it showed."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(folder)
        line = command(*arguments)
        os.execve(line[0], line, environment())
    shown, waiting, deadline = "", list(answers), time.monotonic() + PATIENCE
    asked = 0
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            part = os.read(terminal, 65_536)
        except OSError:
            break  # the other end is closed
        if not part:
            break
        shown += part.decode().replace("\r", "")
        if shown.count("]: ") > asked and waiting:
            asked = shown.count("]: ")
            os.write(terminal, waiting.pop(0).encode())
    os.close(terminal)
    assert not waiting
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown
