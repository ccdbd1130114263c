"""`deadletter`: the meaning of arguments and the output, over dead letters in memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from functions import backends
from functions.backends import Swept, open_dead_letters
from functions.errors import ConfigError, Permanent
from functions.message.envelope import Client, Envelope, Recipient
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import KeptSelection, Selection, Shown
from listener.cli import main as cli
from listener.cli.mails.deadletter import line, moment

NOW = 1_800_000_000.0


def record(number: int, **more: Any) -> DeadRecord:
    values = {
        "id": f"id-{number}",
        "key": f"key{number}",
        "flow": "in",
        "output": "aws_0",
        "reason": "no such bucket",
        "code": "5.3.0",
        "first": 1_700_000_000_000,
        "last": 1_700_000_000_000 + number * 1000,
        "recipients": ("c@d.test",),
        "reverse_path": "a@b.test",
    }
    return DeadRecord.model_validate({**values, **more})


class InMemory:
    """Dead letters of a spool that is a list."""

    def __init__(self, *records: DeadRecord) -> None:
        self.records = list(records)
        self.done: list[tuple[str, str, bool]] = []
        self.closed = False

    def list(self, selection: Selection) -> Iterator[DeadRecord]:
        return (one for one in self.records if selection.takes(one))

    def show(self, record: DeadRecord) -> Shown:
        if record.id == "id-2":
            return Shown(record, None, b"")
        envelope = Envelope(
            id=record.id,
            session="s",
            received=record.first,
            reverse_path="a@b.test",
            recipients=(Recipient(address="c@d.test", flows=("in",)),),
            client=Client(ip="192.0.2.1"),
            size=20,
            sha256="0" * 64,
        )
        return Shown(record, envelope, b"Subject: \x1b[31mred\r\n")

    def replay(self, record: DeadRecord, *, now: bool) -> None:
        self.records.remove(record)
        self.done.append(("replay", record.id, now))

    def replay_kept(self, mail_id: str, *, now: bool) -> int:
        if mail_id == "gone":
            raise Permanent("no such mail is kept")
        self.done.append(("kept", mail_id, now))
        return 2

    def kept(self, selection: KeptSelection) -> Iterator[str]:
        self.asked = selection
        yield from ["m1", "m2"]

    def drop(self, record: DeadRecord) -> None:
        self.records.remove(record)
        self.done.append(("drop", record.id, False))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> InMemory:
    monkeypatch.chdir(tmp_path)
    made = InMemory(
        record(1),
        record(2, flow="out", output="mailer_0", reason="Relay DENIED", code="5.7.1", attempts=3),
        record(3),
    )
    monkeypatch.setattr(
        "listener.cli.mails.deadletter.open_dead_letters", lambda config, folder, environ: made
    )
    return made


def run(*arguments: str) -> int:
    return cli.main(["deadletter", *arguments])


class TestList:
    def test_without_an_action_it_lists(self, letters: InMemory, capsys: pytest.CaptureFixture[str]):
        assert run() == run("list") == 0
        first, second = capsys.readouterr().out.split("3 outputs given up\n")[:2]
        assert first == second
        assert run("--json") == 0
        letters.records[:] = letters.records[:1]
        assert run() == 0
        assert capsys.readouterr().out.splitlines()[-1] == "1 output given up"
        letters.records.clear()
        assert run() == 0
        assert capsys.readouterr().out == "nothing was given up\n"

    def test_all(self, letters: InMemory, capsys: pytest.CaptureFixture[str]):
        assert run("list") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "2023-11-14T22:13:21Z id-1/key1 in/aws_0 5.3.0 no such bucket (1 attempt)"
        assert lines[-1] == "3 outputs given up"
        assert letters.closed

    @pytest.mark.parametrize(
        ("arguments", "ids"),
        [
            (["--flow", "out"], ["id-2"]),
            (["--output", "aws_0"], ["id-1", "id-3"]),
            (["--reason", "denied"], ["id-2"]),
            (["--reason", "5.7.1"], ["id-2"]),
            (["--since", "2023-11-14T22:13:22"], ["id-2", "id-3"]),
            (["--until", "2023-11-14T23:13:22+01:00"], ["id-1"]),
            (["id-3"], ["id-3"]),
            (["id-2/key2", "id-3/other"], ["id-2"]),
            (["--flow", "out", "--output", "aws_0"], []),
        ],
    )
    def test_filters(
        self, letters: InMemory, capsys: pytest.CaptureFixture[str], arguments: list[str], ids: list[str]
    ):
        assert run("list", "--json", *arguments) == 0
        assert [json.loads(each)["id"] for each in capsys.readouterr().out.splitlines()] == ids


class TestShow:
    def test_one(self, letters: InMemory, capsys: pytest.CaptureFixture[str]):
        assert run("show", "id-1") == 0
        out = capsys.readouterr().out
        assert "from <a@b.test>" in out
        assert "to   <c@d.test>" in out
        assert "192.0.2.1" in out
        assert "\x1b" not in out

    def test_its_mail_may_be_gone(self, letters: InMemory, capsys: pytest.CaptureFixture[str]):
        assert run("show", "id-2") == 0
        assert "gone" in capsys.readouterr().out
        assert run("show", "id-2", "--json") == 0
        assert json.loads(capsys.readouterr().out)["envelope"] is None

    def test_none(self, letters: InMemory, capsys: pytest.CaptureFixture[str]):
        assert run("show", "id-9") == 1
        assert "no such dead letter" in capsys.readouterr().err


class TestReplayAndDrop:
    def test_replay(self, letters: InMemory, capsys: pytest.CaptureFixture[str]):
        assert run("replay", "--output", "aws_0", "--now") == 0
        assert letters.done == [("replay", "id-1", True), ("replay", "id-3", True)]
        assert "2 replayed" in capsys.readouterr().out

    @pytest.mark.parametrize(("word", "taken"), [("latest", "ab-3"), ("cd", "cd-4")])
    def test_latest_and_the_beginning_of_an_id_name_a_mail(self, letters: InMemory, word: str, taken: str):
        letters.records[:] = [record(1, id="cd-4"), record(3, id="ab-3"), record(2, id="ab-2")]
        assert run("replay", word) == 0
        assert letters.done == [("replay", taken, False)]

    def test_the_beginning_of_several_ids_changes_nothing(
        self, letters: InMemory, capsys: pytest.CaptureFixture[str]
    ):
        assert run("drop", "id") == 2
        assert letters.done == []
        assert "is the start of 3 ids: id-1, id-2, id-3 (give more characters)" in capsys.readouterr().err

    def test_drop(self, letters: InMemory):
        assert run("drop", "id-2") == 0
        assert letters.done == [("drop", "id-2", False)]
        assert run("drop", "id-2") == 1

    @pytest.mark.parametrize("action", ["replay", "drop"])
    def test_dry_run_does_nothing(self, letters: InMemory, capsys: pytest.CaptureFixture[str], action: str):
        assert run(action, "--all", "--dry-run") == 0
        assert letters.done == []
        assert "3 would be" in capsys.readouterr().out

    @pytest.mark.parametrize("action", ["replay", "drop"])
    def test_all_has_to_be_said(self, letters: InMemory, capsys: pytest.CaptureFixture[str], action: str):
        assert run(action) == 2
        assert "--all" in capsys.readouterr().err
        assert letters.done == []
        assert run(action, "--all") == 0
        assert len(letters.done) == 3

    def test_kept_mail(self, letters: InMemory, capsys: pytest.CaptureFixture[str]):
        assert run("replay", "--kept", "m1", "--now") == 0
        assert letters.done == [("kept", "m1", True)]
        assert "m1 replayed (number 2)" in capsys.readouterr().out
        assert run("replay", "--kept", "m1", "--dry-run") == 0
        assert run("replay", "--kept", "gone") == 1
        assert "no such mail is kept" in capsys.readouterr().err
        assert run("replay", "--kept") == 2
        assert run("drop", "--kept", "m1") == 2
        assert len(letters.done) == 1

    def test_kept_mail_of_a_time_or_a_prefix(
        self, letters: InMemory, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("replay", "--kept", "--since", "2026-01-02", "--until", "2026-01-03", "--dry-run") == 0
        assert letters.asked == KeptSelection(1_767_312_000_000, 1_767_398_400_000, "")
        assert letters.done == []
        assert "2 would be replayed" in capsys.readouterr().out
        assert run("replay", "--kept", "--prefix", "2026/01/02/") == 0
        assert letters.asked == KeptSelection(None, None, "2026/01/02/")
        assert letters.done == [("kept", "m1", False), ("kept", "m2", False)]
        assert run("replay", "--kept", "--all") == 0
        assert letters.asked == KeptSelection()

    @pytest.mark.parametrize(
        "arguments",
        [
            ["list", "--prefix", "x"],
            ["replay", "--prefix", "x"],
            ["list", "--kept"],
            ["replay", "--kept", "--flow", "in", "id"],
        ],
    )
    def test_what_does_not_go_together(self, letters: InMemory, arguments: list[str]) -> None:
        assert run(*arguments) == 2


class TestMoments:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (None, None),
            ("90m", int((NOW - 5400) * 1000)),
            ("3d", int((NOW - 3 * 86400) * 1000)),
            ("2026-01-02", 1_767_312_000_000),
            ("2026-01-02T00:00:00Z", 1_767_312_000_000),
            ("2026-01-02T01:00+01:00", 1_767_312_000_000),
        ],
    )
    def test_times(self, text: str | None, expected: int | None):
        assert moment("--since", text, NOW) == expected

    @pytest.mark.parametrize("text", ["", "yesterday", "12", "3y"])
    def test_no_times(self, text: str):
        with pytest.raises(ConfigError, match="--since"):
            moment("--since", text, NOW)


def test_what_a_stranger_wrote_reaches_no_terminal_raw():
    assert r"\x1b]0;x\x07" in line(record(1, reason="\x1b]0;x\x07"))
    turned = line(record(1, reason="no \u202egnp.exe\u202c \u2066x\u2069 \u200e\u200f\u061c\x9b2J"))
    assert r"no \u202egnp.exe\u202c \u2066x\u2069 \u200e\u200f\u061c\x9b2J" in turned


def test_the_spool_chooses_the_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from listener.config.load import load

    config = load(None, {"SMTP_RELAY_CONFIG_JSON": '{"flows": {}, "spool": "s3://b"}'})
    gone = backends.Backend(*["functions.no_such_module"] * 3)
    monkeypatch.setattr(backends, "BACKENDS", {"s3": gone})
    with pytest.raises(ConfigError, match="s3://b"):
        open_dead_letters(config, tmp_path, {})


def test_sweep_prints_what_it_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    results = iter([Swept(None, 0, 0, 0), Swept(61.5, 2, 1, 2), Permanent("no such bucket")])

    def sweep_once(*_: Any) -> Swept:
        found = next(results)
        if isinstance(found, Permanent):
            raise found
        return found

    monkeypatch.setattr("listener.cli.mails.sweep.sweep_once", sweep_once)
    assert cli.main(["sweep"]) == 0
    assert cli.main(["sweep"]) == 0
    assert cli.main(["sweep"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "0 unfinished; 0 dead; 0 notified again",
        "2 unfinished, the oldest 62 s old; 1 dead; 2 notified again",
    ]
    assert "no such bucket" in err
