"""The lines of a start: where to send mail, what becomes of it, and hints for a person."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.config.relay import RelayConfig
from listener.logs.options import LoggerOptions
from listener.logs.setup import _install, configure
from listener.server import announcement
from listener.server.announcement import announce
from listener.server.sockets import bind, close_all

FILE = {"type": "file", "path": "./mails/"}
HERE = {"type": "whitelist", "ips": ["127.0.0.1"]}


@pytest.fixture(autouse=True)
def undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks", "_srcfile"):
        if hasattr(logging, name):
            monkeypatch.setattr(logging, name, getattr(logging, name))
    monkeypatch.setattr(announcement.shutil, "which", lambda name: f"/usr/bin/{name}")
    yield
    _install([], logging.NOTSET)


@pytest.fixture
def started(capfd: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """The lines, without times; {port} stands for the first listener's port."""

    def start(*outputs: Any, loggers: Any = None, **config: Any) -> list[str]:
        if "listeners" not in config:
            config["port"] = 0
        flows = {"in": {"filters": [HERE], "outputs": list(outputs) or [FILE]}}
        read = RelayConfig.model_validate({"flows": flows, **config}, by_alias=True)
        read._source = "relay.jsonc"
        sockets = [(one, bind(one.bind, one.port, shared=False)) for one in read.resolved_listeners()]
        configure(loggers, environ={})
        try:
            port = sockets[0][1][0].getsockname()[1]
            announce(read, sockets)
        finally:
            close_all(bound for _, bound in sockets)
        lines = capfd.readouterr().err.replace(str(port), "{port}").splitlines()
        return [line.partition(" ")[2] for line in lines]

    return start


def test_a_debug_server(started: Callable[..., list[str]]) -> None:
    address, *rest = started(options={"authOptional": True})
    assert address.startswith("listening on 127.0.0.1:{port} (smtp-relay ")
    assert address.endswith(", relay.jsonc)")
    assert rest == [
        "mails are stored in mails/",
        "send one from another terminal: smtp-relay send you@example.com --server localhost:{port}",
        "stop with Ctrl-C",
    ]


def test_several_outputs_on_this_machine(started: Callable[..., list[str]]) -> None:
    lines = started(FILE, {"type": "file", "path": "copies"}, {"type": "log"})
    assert lines[1] == "mails go to mails/, copies/ and log_2"
    assert started({"type": "log", "name": "shown"})[1] == "mails go to shown"


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"authOptional": False, "hideSTARTTLS": True}, " --auth USER:PASSWORD"),
        ({"authOptional": False}, " --auth USER:PASSWORD --tls --insecure"),
        ({"authOptional": True, "secure": True}, " --tls-on-connect --insecure"),
        ({"authOptional": True, "lmtp": True}, " --lmtp"),
    ],
)
def test_the_command_to_send_has_the_flags_that_the_listener_needs(
    started: Callable[..., list[str]], options: Any, flags: str
) -> None:
    command = started(options=options)[2].partition(": ")[2]
    assert command == f"smtp-relay send you@example.com --server localhost:{{port}}{flags}"


def test_mail_that_leaves_is_no_debug_server(started: Callable[..., list[str]]) -> None:
    away = {"type": "mailer", "nodemailer": "smtp://hop.example", "name": "hop"}
    assert started(FILE, away)[1:] == ["mails wait in .smtp-relay; they go to mails/ and hop"]


def test_an_output_that_sends_released_mails_too_is_named_once(started: Callable[..., list[str]]) -> None:
    away = {"type": "mailer", "nodemailer": "smtp://hop.example", "name": "hop"}
    release = {"output": "hop", "recipients": ["*@example.com"]}
    lines = started(FILE, away, inbox={"release": release})
    assert lines[1:] == ["mails wait in .smtp-relay; they go to mails/ and hop"]


def test_mail_for_a_cloud_function(started: Callable[..., list[str]]) -> None:
    lines = started(
        {"type": "aws", "pubsub": {"topic": "https://sqs.eu-west-1.amazonaws.com/1/q"}},
        spool="s3://bucket/mails",
        listeners=[
            {"name": "a", "port": 0, "bind": "127.0.0.1"},
            {"name": "b", "port": 0, "bind": "127.0.0.1", "secure": True},
        ],
    )
    assert lines[0].startswith("listening on 127.0.0.1:{port}, 127.0.0.1:")
    assert " (smtps) (smtp-relay " in lines[0]
    assert lines[1:] == ["mails wait in s3://bucket/mails; the cloud function delivers them to aws_0"]


def test_a_machine_gets_no_hints_and_all_facts(started: Callable[..., list[str]]) -> None:
    assert len(started(loggers=[LoggerOptions(type="CONSOLE", format="json")])) == 2
    assert started(loggers=[LoggerOptions(type="CONSOLE", level="WARN")]) == []


def test_many_outputs_are_counted(started: Callable[..., list[str]]) -> None:
    line = started(*[{"type": "file", "path": f"f{number}"} for number in range(30)])[1]
    assert line.endswith("f8/, f9/ and 20 more")


def test_a_program_that_is_not_on_the_path_is_shown_from_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(announcement.shutil, "which", lambda name: None)
    monkeypatch.chdir(tmp_path)
    for started, shown in (
        (f"{tmp_path}/.venv/bin/smtp-relay", ".venv/bin/smtp-relay"),
        ("/opt/bin/smtp-relay", "/opt/bin/smtp-relay"),
        ("/opt/listener/cli/main.py", "smtp-relay"),
    ):
        monkeypatch.setattr(sys, "argv", [started])
        assert announcement._program() == shown
