"""`quota`: shows and resets counts beside a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from listener.cli.main import main
from listener.filters.sending.counts import FILE, Counts
from listener.filters.sending.slots import Window


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    guard = {"type": "sending-policy", "rules": [{"user": "glob:*", "limits": "10/hour"}]}
    keys = {"spool": "file://spool", "flows": {"out": {"filters": [guard], "outputs": []}}}
    (tmp_path / "relay.json").write_text(json.dumps(keys))
    return tmp_path / "relay.json"


def count(folder: Path, who: str, number: int) -> None:
    one = Window.of(who, 3_600, 10, "out", "sending-policy_0", "rules[0]", "10/hour", who)
    Counts(folder / "spool" / FILE).take((one,), number)


def test_counts_are_shown_by_user(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count(config.parent, "ann@example.com", 3)
    count(config.parent, "bob", 9)
    assert main(["quota", "-c", str(config)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "bob: 9 of 10/hour  (out/sending-policy_0 rules[0])",
        "ann@example.com: 3 of 10/hour  (out/sending-policy_0 rules[0])",
    ]
    assert main(["quota", "show", "ANN@example.com", "--json", "-c", str(config)]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert row == {
        "flow": "out",
        "filter": "sending-policy_0",
        "rule": "rules[0]",
        "limit": "10/hour",
        "who": "ann@example.com",
        "used": 3,
        "most": 10,
        "seconds": 3_600,
    }


def test_a_user_or_everybody_is_reset(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for who in ("ann", "bob", "eve"):
        count(config.parent, who, 10)
    assert main(["quota", "reset", "ann", "-c", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"who": "ann", "counts": 1}
    assert main(["quota", "reset", "--all", "-c", str(config)]) == 0
    assert capsys.readouterr().out == "everybody: 2 counts forgotten\n"
    assert main(["quota", "-c", str(config)]) == 0
    assert capsys.readouterr().out == "nothing counts now\n"


def test_before_a_server_counted_nothing_is_made(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quota", "-c", str(config)]) == 0
    assert "does not exist" in capsys.readouterr().out
    assert not (config.parent / "spool").exists()


@pytest.mark.parametrize("words", [["reset"], ["reset", "ann", "--all"], ["show", "--all"]])
def test_a_mistake_is_one_line(config: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["quota", *words, "-c", str(config)]) == 2
    assert capsys.readouterr().err.startswith("smtp-relay: ")


def test_a_file_without_the_filter_has_nothing_to_show(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(json.dumps({"flows": {}}))
    assert main(["quota", "-c", str(config)]) == 2
    assert "has no sending-policy" in capsys.readouterr().err
