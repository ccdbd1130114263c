"""`serve` with the flags and variables that people type, as a process."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli.conftest import Run, Serve
from tests.support.clients.wire import submit
from tests.support.net import HOST, PATIENCE, answers, free_port, wait_until
from tests.support.servers.relay import flow

MAIL = b"Subject: x\r\n\r\nx\r\n"


def write(path: Path, **keys: Any) -> None:
    """A configuration whose own port is never free to use: flags must override it."""
    one = flow()
    one["outputs"][0]["path"] = "received"
    options = {"authOptional": True, "disableReverseLookup": True}
    path.write_text(json.dumps({"flows": {"all": one}, "port": 1, "options": options, **keys}))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "{port}"],
        ["serve", "--port={port}", "--bind", HOST],
        ["-v", "relay.jsonc", "--port", "{port}"],
        ["serve", "-c", "relay.jsonc", "--port", "{port}", "-q"],
        ["--port", "{port}", "serve", "relay.jsonc"],
        ["-qc", "relay.jsonc", "--port", "{port}", "relay.jsonc"],
    ],
)
def test_flags_stand_anywhere(typed: Serve, tmp_path: Path, arguments: list[str]) -> None:
    write(tmp_path / "relay.jsonc")
    server = typed(*arguments, "--folder", "mails").start()
    assert submit(server.port, MAIL).code == 250
    wait_until(lambda: any((tmp_path / "mails").glob("*.eml")), seconds=PATIENCE, what="the mail")
    assert not (tmp_path / "received").exists()


def test_the_environment_says_port_and_address(typed: Serve, tmp_path: Path) -> None:
    write(tmp_path / "smtp-relay.json")
    environ = {"SMTP_RELAY_PORT": "{port}", "SMTP_RELAY_BIND": "127.0.0.2"}
    server = typed(environ=environ)
    server.spawn()
    with socket.socket() as probe:
        wait_until(
            lambda: probe.connect_ex(("127.0.0.2", server.port)) == 0, seconds=PATIENCE, what="the port"
        )
    assert not answers(server.port)


def test_a_reload_keeps_the_flags(typed: Serve, tmp_path: Path) -> None:
    write(tmp_path / "relay.jsonc")
    server = typed("relay.jsonc", "--port", "{port}", "--folder", "mails").start()
    write(tmp_path / "relay.jsonc", port=2, mailHeaders={"X-New": "yes"})
    server.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    wait_until(lambda: "read again" in server.log(), seconds=PATIENCE, what="the reload")
    assert submit(server.port, MAIL).code == 250
    wait_until(lambda: any((tmp_path / "mails").glob("*.eml")), seconds=PATIENCE, what="the mail")
    (mail,) = (tmp_path / "mails").glob("*.eml")
    assert b"X-New: yes" in mail.read_bytes()


def test_a_reload_to_several_listeners_is_refused_and_the_server_stays(typed: Serve, tmp_path: Path) -> None:
    write(tmp_path / "relay.jsonc")
    server = typed("relay.jsonc", "--port", "{port}").start()
    text = json.loads((tmp_path / "relay.jsonc").read_text())
    del text["port"]
    (tmp_path / "relay.jsonc").write_text(json.dumps({**text, "listeners": [{"port": 1}, {"port": 2}]}))
    server.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    wait_until(
        lambda: "--port: the configuration has 2 listeners" in server.log(), seconds=PATIENCE, what="it"
    )
    assert submit(server.port, MAIL).code == 250


@pytest.mark.parametrize("workers", [1, 2])
def test_the_kernel_chooses_port_0_and_the_start_says_it(typed: Serve, tmp_path: Path, workers: int) -> None:
    write(tmp_path / "relay.jsonc", workers=workers)
    server = typed("relay.jsonc", "--port", "0")
    server.spawn()
    pattern = re.compile(r"127\.0\.0\.1:(\d+)")
    wait_until(lambda: pattern.search(server.log()) is not None, seconds=PATIENCE, what="the line")
    found = pattern.search(server.log())
    assert found is not None
    assert submit(int(found[1]), MAIL).code == 250


def test_verbose_and_quiet_say_more_and_less(typed: Serve, tmp_path: Path) -> None:
    write(tmp_path / "relay.jsonc", loggers=[{"type": "CONSOLE", "level": "INFO"}])
    said = {}
    for flag in ("-v", "-q"):
        server = typed("relay.jsonc", "--port", "{port}", flag).start()
        assert submit(server.port, MAIL).code == 250
        server.stop()
        said[flag] = server.log()
        server.output.unlink()
    assert "DEBUG" in said["-v"]
    assert " INFO]" not in said["-q"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "--port: '70000' is not a port"),
        (["--bind", ""], "--bind: '' is not an address"),
        (["two.json", "--port", "25"], "--port: the configuration has 2 listeners"),
        (["two.json", "--bind", "::1"], "--bind: the configuration has 2 listeners"),
        (["two.json", "--folder", "x"], "--folder: the configuration has no output of type file"),
        (["two.json", "-c", "one.json"], "--config one.json: another configuration is given: two.json"),
        (["nonsense"], "nonsense: neither a command nor a file"),
        (["gone.jsonc"], "gone.jsonc: the file does not exist"),
        (["-v", "-q"], "not allowed with"),
        (["--prot", "25"], "did you mean --port?"),
        (["one.json", "two.json"], "unrecognized arguments: two.json"),
    ],
)
def test_mistakes_are_one_line_and_2(relay: Run, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "one.json").write_text('{"flows": {}}')
    (tmp_path / "two.json").write_text('{"flows": {}, "listeners": [{"port": 1}, {"port": 2}]}')
    done = relay(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("smtp-relay")
    assert words in line


def test_a_used_port_is_one_line_that_names_its_user_and_the_flag(typed: Serve, relay: Run) -> None:
    first = typed("--port", "{port}").start()
    done = relay("--port", str(first.port))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"port {first.port} on {HOST}: is in use by process {first.pid} (" in line
    assert line.endswith("(stop that, or use --port 2525)")


def test_a_second_server_in_one_folder_starts_with_the_cure_that_the_refusal_prints(
    typed: Serve, relay: Run, tmp_path: Path
) -> None:
    typed("--port", "{port}").start()
    done = relay("--port", "0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "another server is using it" in line
    name, _, value = line[line.index("SMTP_RELAY_SPOOL") : -1].partition("=")
    assert (tmp_path / ".smtp-relay").exists()
    second = typed("--port", "{port}", environ={name: value}).start()
    assert second.port
    assert (tmp_path / ".smtp-relay-2").exists()


def test_send_finds_the_server_of_the_folder(typed: Serve, relay: Run, tmp_path: Path) -> None:
    port = free_port()
    write(tmp_path / "smtp-relay.json", port=port)
    server = typed()
    server.port = port
    server.start()
    done = relay("send", "you@example.com")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("taken: 250")
    done = relay("send", "you@example.com", environ={"SMTP_RELAY_PORT": str(free_port())})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "is the server running?" in line
