"""What a running server prints: its start, a line for each mail, JSON on every line, or nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.wire import Wire, submit
from tests.support.net import HOST, answers, free_port, wait_until
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

MAIL = b"From: a@client.example\r\nSubject: =?utf-8?q?Sch=C3=B6n?=\r\n\r\nhello\r\n"
CONSOLE = {"type": "CONSOLE"}
JSON = {"type": "CONSOLE", "format": "json"}
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


def text_of(log: str) -> list[str]:
    """The lines without their times."""
    return [re.sub(f"^{STAMP}", "", line) for line in log.splitlines()]


def json_of(relay: Relay) -> list[dict[str, Any]]:
    """Every line, which must be an object."""
    return [json.loads(line) for line in relay.log().splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_start_says_address_folder_sending_and_stopping(new_relay: Make, workers: int) -> None:
    relay = new_relay({"loggers": [CONSOLE], "workers": workers}, hideSTARTTLS=True).start()
    wait_until(lambda: "Ctrl-C" in relay.log(), seconds=10, what="the start")
    address, folder, sending, stopping = text_of(relay.log())
    assert re.fullmatch(rf"listening on {HOST}:{relay.port} \(smtp-relay \S+, .*relay\.json\)", address)
    assert folder == f"mails are stored in {relay.received}/"
    wanted = rf"send one from another terminal: (\S+) send you@example\.com --server localhost:{relay.port}"
    assert re.fullmatch(wanted, sending)
    assert stopping == "stop with Ctrl-C"
    assert relay.stop() == 0


def test_the_default_starts_with_at_most_six_lines_and_adds_one_for_each_mail(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "listener.cli.main", "serve"]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[3]), "HOME": str(tmp_path)}
    (tmp_path / "debug.json").write_text(
        json.dumps(
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", _EMBEDDED], check=True, capture_output=True, text=True, env=environ
                ).stdout
            )
            | {"port": port}
        )
    )
    with subprocess.Popen(
        [*command, "debug.json"], cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        wait_until(lambda: answers(port), seconds=30, what="the port")
        for number in range(3):
            assert (
                submit(
                    port, MAIL, "app@client.example", *["you@x.example", "b@x.example"][: number or 1]
                ).code
                == 250
            )
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out) == (0, b"")
    lines = text_of(err.decode())
    mails = [at for at, line in enumerate(lines) if " → " in line]
    assert len(mails) == 3
    assert mails[0] <= 6
    assert lines[mails[-1] + 1 :] == ["draining", "stopped"]
    first = r'app@client\.example → you@x\.example  "Schön"  \d+ B  (received_emails/\S+\.eml)'
    found = re.fullmatch(first, lines[mails[0]])
    assert found is not None
    assert (tmp_path / found[1]).read_bytes().endswith(b"\r\n\r\nhello\r\n")
    assert " → you@x.example +1  " in lines[mails[2]]


_EMBEDDED = (
    "import json; from listener.config.load import EMBEDDED; from functions.options.jsonc import parse; "
    "print(json.dumps(parse(EMBEDDED.read_text())))"
)


def test_without_addresses_a_line_shows_domain_and_ids(new_relay: Make) -> None:
    relay = new_relay({"loggers": [CONSOLE]}).start()
    reply = submit(relay.port, MAIL, "app@client.example", "you@x.example")
    assert relay.stop() == 0
    (line,) = [line for line in text_of(relay.log()) if " → " in line]
    assert line.startswith("@client.example → 1 recipient  ")
    assert f"id={reply.text.rpartition(' ')[2]}" in line
    for hidden in ("you@", "app@", "Schön", ".eml"):
        assert hidden not in line


def test_a_server_that_sends_on_says_where_mails_wait(new_relay: Make) -> None:
    output = {"type": "mailer", "name": "hop", "nodemailer": {"host": HOST, "port": free_port()}}
    mine = {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [output]}
    relay = new_relay({"loggers": [CONSOLE], "flows": {"out": mine}}, hideSTARTTLS=True).start()
    wait_until(lambda: "mails wait" in relay.log(), seconds=10, what="the start")
    assert relay.stop() == 0
    lines = text_of(relay.log())
    assert f"mails wait in {relay.folder}/spool; they go to hop" in lines
    assert not any("Ctrl-C" in line or "send one" in line for line in lines)


@pytest.mark.parametrize("workers", [1, 2])
def test_with_json_every_line_is_json(new_relay: Make, workers: int) -> None:
    config = {"loggers": [JSON], "workers": workers, "logAddresses": True}
    relay = new_relay(config, secure=False).start()
    reply = submit(relay.port, MAIL, "app@client.example", "you@x.example")
    with Wire(relay.port) as wire:
        wire.command("FOO bar")
    if workers > 1:
        # A worker that is killed is the supervisor's line. One of them tells the addresses at its start.
        wait_until(lambda: "listening on " in relay.log(), seconds=20, what="the addresses")
        victim = next(iter(_children(relay.pid)))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: "died" in relay.log(), seconds=20, what="the supervisor's line")
    assert relay.stop() == 0
    lines = json_of(relay)
    (listening,) = [one for one in lines if one["message"].startswith("listening on ")]
    assert listening["addresses"] == [f"{HOST}:{relay.port}"]
    assert {"version", "config", "listeners", "protocols"} <= listening.keys()
    (mail,) = [one for one in lines if one["message"] == "mail accepted"]
    assert mail["id"] == reply.text.rpartition(" ")[2]
    assert (mail["from"], mail["to"], mail["subject"]) == ("app@client.example", "you@x.example", "Schön")
    assert Path(mail["file"]).parent == relay.received


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


FAULTY_PLUGIN = '''
"""A filter that warns, and a thread that fails."""
import asyncio, logging, sys, threading, warnings
from typing import Literal
from listener.api.decision import ACCEPT
from listener.api.filter import Filter, FilterOptions

class Options(FilterOptions):
    type: Literal["faulty"]

class Ignored:
    def __del__(self):
        raise ValueError("ignored by Python")

class Faulty(Filter):
    async def start(self):
        warnings.warn("this is old", DeprecationWarning, stacklevel=1)
        warnings.warn("this is odd", UserWarning, stacklevel=1)
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
        Ignored()
        asyncio.get_running_loop().call_soon(lambda: {}["callback"])
        logging.getLogger("smtp_relay.faulty").error("odd %d", "no number")

def build(options, name, context):
    return Faulty(name)
'''


def test_with_json_python_s_own_words_are_json(new_relay: Make) -> None:
    mine = flow({"type": "whitelist", "ips": [HOST]}, {"type": "faulty"}, operator="OR")
    relay = new_relay({"loggers": [JSON], "flows": {"in": mine}})
    installed = relay.folder / "faulty-1.dist-info"
    installed.mkdir()
    (relay.folder / "faulty.py").write_text(FAULTY_PLUGIN)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[smtp_relay.filters]\nfaulty = faulty\n")
    relay.start()
    words = (
        "this is odd",
        "ZeroDivisionError",
        "ignored by Python",
        "KeyError",
        "could not be written: TypeError",
    )
    wait_until(lambda: all(each in relay.log() for each in words), seconds=20, what="all of them")
    assert relay.stop() == 0
    assert json_of(relay)


@pytest.mark.parametrize("workers", [1, 2])
def test_without_loggers_nothing_is_printed(new_relay: Make, workers: int) -> None:
    relay = new_relay({"loggers": [], "workers": workers}).start()
    assert submit(relay.port, MAIL).code == 250
    with Wire(relay.port) as wire:
        wire.command("FOO bar")
    assert relay.stop() == 0
    assert relay.log() == ""


class TestMistakes:
    """A start that fails."""

    @pytest.fixture
    def failed(self, new_relay: Make) -> Callable[..., str]:
        def start(config: Any) -> str:
            relay = new_relay({"port": 1, "bind": "192.0.2.1", **config})
            assert relay.spawn().wait(60) == 2
            return relay.log()

        return start

    def test_a_person_reads_it_as_in_other_commands(self, failed: Callable[..., str]) -> None:
        for loggers in ([CONSOLE], None, []):
            (line,) = failed({"loggers": loggers}).splitlines()
            assert line.startswith("smtp-relay: port 1 on 192.0.2.1: ")

    @pytest.mark.parametrize(
        "kind", [JSON, {"type": "FILE", "filepath": "{folder}/l.json", "format": "json"}]
    )
    def test_a_program_reads_json(self, failed: Callable[..., str], kind: Any) -> None:
        (line,) = failed({"loggers": [kind]}).splitlines()
        said = json.loads(line)
        assert said["level"] == "ERROR"
        assert said["message"].startswith("port 1 on 192.0.2.1: ")

    def test_a_file_with_other_mistakes_names_its_loggers_too(self, failed: Callable[..., str]) -> None:
        (line,) = failed({"loggers": [JSON], "porrt": 25}).splitlines()
        assert "unknown key 'porrt'" in json.loads(line)["message"]

    def test_loggers_with_mistakes_are_not_used(self, failed: Callable[..., str]) -> None:
        (line,) = failed({"loggers": [JSON | {"level": "LOUD"}]}).splitlines()
        assert line.startswith("smtp-relay: ")
