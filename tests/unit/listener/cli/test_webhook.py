"""`webhook test`: which output is meant, and what is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.cli import main as cli
from tests.support.servers.receiver import Receiver, answer, receiving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(**flows: list[Any]) -> None:
    value = {"flows": {name: {"outputs": outputs} for name, outputs in flows.items()}}
    Path("smtp-relay.json").write_text(json.dumps(value))


def hook(receiver: Receiver, **given: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": receiver.url, **given}


def test_the_only_webhook_needs_no_name(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    write(a=[{"type": "log"}, hook(receiver, format="raw")])
    assert cli.main(["webhook", "test", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["flow"], found["output"], found["status"], found["body"]) == ("a", "webhook_1", 200, "ok")
    assert b"smtp-relay webhook test sent this." in receiver.received[0].body


def test_one_of_several_is_named(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    write(a=[hook(receiver, name="crm")], b=[hook(receiver, name="crm"), hook(receiver, name="other")])
    assert cli.main(["webhook", "test", "b/crm"]) == 0
    assert cli.main(["webhook", "test", "other"]) == 0
    assert cli.main(["webhook", "test", "crm"]) == 2
    assert "name one: a/crm, b/crm, b/other" in capsys.readouterr().err
    assert cli.main(["webhook", "test", "nothing"]) == 2
    assert len(receiver.received) == 2


def test_without_a_webhook_there_is_nothing_to_test(capsys: pytest.CaptureFixture[str]) -> None:
    write(a=[{"type": "log"}])
    assert cli.main(["webhook", "test"]) == 2
    assert "has no output of type webhook" in capsys.readouterr().err


def test_another_status_ends_with_1(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    receiver.react = answer(500, b"\x1b]0;title\x07")
    write(a=[hook(receiver)])
    assert cli.main(["webhook", "test"]) == 1
    out = capsys.readouterr().out
    assert "status 500" in out
    assert "\x1b" not in out


def test_what_the_receiver_repeats_of_secrets_is_hidden(
    receiver: Receiver, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "c4n4ry")
    receiver.react = answer(200, b"you sent c4n4ry and " + SECRET.encode())
    write(a=[hook(receiver, secret=SECRET, headers={"X-Key": "env:KEY"}, stored="s3")])
    assert cli.main(["webhook", "test"]) == 2
    write(a=[hook(receiver, secret=SECRET, headers={"X-Key": "env:KEY"})])
    capsys.readouterr()
    assert cli.main(["webhook", "test"]) == 0
    out = capsys.readouterr().out
    assert "c4n4ry" not in out
    assert SECRET not in out
    assert "you sent **********" in out
