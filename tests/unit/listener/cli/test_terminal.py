"""The output of every command cannot steer a terminal, whatever a mail, a server, DNS or a file says."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from functions.errors import Temporary
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import KeptSelection, Selection, Shown
from listener.cli import healthcheck
from listener.cli import main as cli

HOSTILE: Final = "\u202egnp.exe\u2066x\u2069 \u200e\u200f\u061c \x9b2J\x7f \x1b[31m"
"""Turns the direction of writing, moves the cursor, sets a colour."""

HARMFUL: Final = set(HOSTILE) - set("gnp.exe x[2J31m")


RECORD: Final = DeadRecord(
    id="id-1" + HOSTILE,
    key="key1",
    flow="in" + HOSTILE,
    output="aws_0" + HOSTILE,
    reason=HOSTILE,
    code="5.3.0",
    first=1_700_000_000_000,
    last=1_700_000_000_000,
    recipients=(f"b{HOSTILE}@server.example",),
    reverse_path=f"a{HOSTILE}@client.example",
)


class HostileLetters:
    """Dead letters and kept mail, each text of which is hostile."""

    def list(self, selection: Selection) -> list[DeadRecord]:
        return [RECORD]

    def show(self, record: DeadRecord) -> Shown:
        return Shown(record, None, f"Subject: {HOSTILE}\r\n".encode())

    def drop(self, record: DeadRecord) -> None:
        raise Temporary(f"{HOSTILE} no")

    def kept(self, selection: KeptSelection) -> list[str]:
        return ["id-2" + HOSTILE]

    def replay_kept(self, mail_id: str, *, now: bool) -> int:
        return 1

    def close(self) -> None:
        pass


@contextlib.contextmanager
def saying(*lines: str) -> Iterator[int]:
    """A server that says one line, and one for each that it gets; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client, client.makefile("rb") as said:
                for line in lines:
                    client.sendall(f"{line}\r\n".encode())
                    if not said.readline():
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def is_harmless(text: str) -> bool:
    return not HARMFUL & set(text)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("listener.cli.mails.deadletter.open_dead_letters", lambda *_: HostileLetters())


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["show", "id-1"],
        ["drop", "--all"],
        ["drop", "--all", "--dry-run"],
        ["replay", "--kept", "--all"],
        ["list", "--since", HOSTILE],
        [f"--{HOSTILE}"],
    ],
)
def test_dead_letters(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):  # argparse ends so
        cli.main(["deadletter", *arguments])
    printed = "".join(capsys.readouterr())
    assert "\\u202egnp.exe" in printed
    assert is_harmless(printed)


@pytest.mark.parametrize("arguments", [["list"], ["show", "id-1"], ["replay", "--kept", "--all"]])
def test_json_stays_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["deadletter", *arguments, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert is_harmless(line)
    assert json.loads(line)["id"].endswith(HOSTILE)


def test_names_and_values_of_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    filters = [{"type": "whitelist", "ips": "127.0.0.1", "to": f"a{HOSTILE}@b.example"}]
    flow = {"filters": filters, "outputs": [{"type": "file", "path": f"x{HOSTILE.replace(chr(27), '')}"}]}
    Path("relay.json").write_text(json.dumps({"flows": {"in": flow}}))
    cli.main(["check", "relay.json", "--from-loopingz"])
    printed = "".join(capsys.readouterr())
    assert "\\u202egnp.exe" in printed
    assert is_harmless(printed)


@pytest.mark.parametrize("command", [["check"], ["deadletter", "list", "-c"], ["serve"], ["sweep"]])
def test_the_name_of_a_file_that_is_not_there(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, f"no{HOSTILE}.json"]) == 2
    printed = "".join(capsys.readouterr())
    assert "no\\u202egnp.exe" in printed
    assert is_harmless(printed)


@pytest.mark.parametrize("first", [f"554 {HOSTILE}", f"220-{HOSTILE}", HOSTILE])
@pytest.mark.parametrize("more", [[], ["--verbose"]])
def test_the_words_of_a_server(first: str, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with saying(first, f"250 {HOSTILE}", f"550 {HOSTILE}", f"550 {HOSTILE}") as port:
        server = ["--server", f"127.0.0.1:{port}", "--helo", "x.example", "--timeout", "5"]
        assert cli.main(["send", *server, "--to", "b@server.example", *more]) == 1
    printed = "".join(capsys.readouterr())
    assert printed
    assert is_harmless(printed)


@pytest.mark.parametrize("place", ["--to", "--from", "--server", "--helo", "--header", "--port", "--data"])
def test_the_arguments_of_a_mail(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):  # argparse ends so
        assert cli.main(["send", "b@server.example", place, f"b{HOSTILE}@server.example"]) == 2
    printed = "".join(capsys.readouterr())
    assert "\\u202egnp.exe" in printed
    assert is_harmless(printed)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_what_mail_and_dns_say(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("mail.eml").write_bytes(
        f"From: Ann <ann@{HOSTILE}.example>\r\nReceived: from {HOSTILE} by b; x\r\n\r\nHi\r\n".encode()
    )
    Path("zone.json").write_text(json.dumps({"example.com": {"TXT": [f"v=spf1 ?all {HOSTILE}"]}}))
    sender = ["--ip", "192.0.2.1", "--helo", f"mx{HOSTILE}", "--mail-from", "ann@example.com"]
    cli.main(["auth-check", "mail.eml", *sender, "--receiver", f"mx{HOSTILE}", "--zone", "zone.json", *more])
    printed = "".join(capsys.readouterr())
    assert "202egnp.exe" in printed
    assert is_harmless(printed)
    assert not more or json.loads(printed)


def test_the_health_check(capsys: pytest.CaptureFixture[str]) -> None:
    with saying(f"220 {HOSTILE}") as port:
        assert healthcheck.main({"SMTP_RELAY_HEALTH_PORT": str(port)}) == 1
    printed = "".join(capsys.readouterr())
    assert printed
    assert is_harmless(printed)
