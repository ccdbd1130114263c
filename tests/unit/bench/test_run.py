"""The comparison runs with the servers that are here."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import run


def test_a_server_that_is_not_here_is_left_out_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = [run._SERVERS[name] for name in ("relay", "stock", "go", "haraka", "maildev", "mailpit")]
    found, left_out = run._ready(wanted)
    assert [server.name for server in found] == ["relay", "stock"]
    assert list(left_out) == ["go-smtp", "Haraka", "MailDev", "Mailpit"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" is left out: ")[0] for line in lines] == list(left_out)


def test_without_any_server_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        run.main(["--server", "mailpit", "--work", str(tmp_path / "work")])
    assert ended.value.code == 2


def test_every_server_has_a_name_of_its_own() -> None:
    names = [server.name for server in run._SERVERS.values()]
    assert len(set(names)) == len(names)
