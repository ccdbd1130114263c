"""`mails`: what the actions print, and how they end."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from listener.cli import main as cli

ID = "01890a5d-ac96-774b-bcce-b302099a8001"
OTHER = "01890a5d-ac97-774b-bcce-b302099a8002"
MAIL = (
    b"From: Ada <ada@h.example>\r\nTo: bob@h.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"X-Odd: \x1b[31mred\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n"
    b"--a\r\nContent-Type: text/plain\r\n\r\nhi\x1b[2J there\r\n"
    b"--a\r\nContent-Type: text/html\r\n\r\n<b>hi</b>\r\n--a--\r\n"
    b"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\n"
    b"PDF\r\n--b--\r\n"
)

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a debug server that stored two mails."""
    monkeypatch.chdir(tmp_path)
    stored = tmp_path / "received_emails"
    stored.mkdir()
    for at, (mail_id, data) in enumerate(((ID, MAIL), (OTHER, b"Subject: second\r\n\r\nx\r\n"))):
        path = stored / f"2026_{mail_id}.eml"
        path.write_bytes(data)
        os.utime(path, (1_800_000_000 + at, 1_800_000_000 + at))
    return stored


def run(*arguments: str) -> int:
    return cli.main(["mails", *arguments])


class TestList:
    @pytest.mark.parametrize("arguments", [[], ["list"]])
    def test_the_newest_first(self, folder: Path, capsys: Output, arguments: list[str]) -> None:
        assert run(*arguments) == 0
        first, second, last = capsys.readouterr().out.splitlines()
        assert first.endswith(f"  <> → ?  second  22 B  received_emails/2026_{OTHER}.eml")
        assert f"  ada@h.example → bob@h.example  Grüße  {len(MAIL)} B  " in second
        assert last == f"2 in {folder}"

    def test_a_limit(self, folder: Path, capsys: Output) -> None:
        assert run("--limit", "1") == 0
        assert "2 in" in capsys.readouterr().out
        assert run("--limit", "0", "--json") == 0
        assert len(capsys.readouterr().out.splitlines()) == 2

    def test_json(self, folder: Path, capsys: Output) -> None:
        assert run("--json") == 0
        found = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
        assert found[1] == {
            "id": ID,
            "time": "2027-01-15T08:00:00.000+00:00",
            "from": "ada@h.example",
            "to": ["bob@h.example"],
            "subject": "Grüße",
            "size": len(MAIL),
            "file": str(folder / f"2026_{ID}.eml"),
            "error": None,
        }

    def test_the_folder_that_a_server_was_started_with(self, folder: Path, capsys: Output) -> None:
        folder.rename(folder.with_name("elsewhere"))
        assert run("--folder", "elsewhere", "--json") == 0
        found = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
        assert [each["id"] for each in found] == [OTHER, ID]
        assert run("delete", "latest", "--folder", "./elsewhere/", "--yes") == 0
        assert len(list(folder.with_name("elsewhere").iterdir())) == 1

    def test_no_folder_yet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
        monkeypatch.chdir(tmp_path)
        assert run() == 0
        assert capsys.readouterr().out == f"0 in {tmp_path}/received_emails\n"
        assert list(tmp_path.iterdir()) == []

    def test_a_name_that_is_not_text(self, folder: Path, capsys: Output) -> None:
        Path(os.fsdecode(bytes(folder) + b"/\xff\x1b[2J.eml")).write_bytes(b"Subject: x\r\n\r\n")
        assert run() == 0
        assert "\x1b" not in capsys.readouterr().out
        assert run("--json") == 0
        json.loads(capsys.readouterr().out.splitlines()[0])


class TestShow:
    def test_header_and_text(self, folder: Path, capsys: Output) -> None:
        assert run("show", ID) == 0
        out = capsys.readouterr().out
        assert "From: Ada <ada@h.example>\nTo: bob@h.example\nSubject: Grüße\n" in out
        assert "Attachment: a.pdf (application/pdf, 3 B)\n" in out
        assert out.endswith("\nhi\\x1b[2J there\n")

    def test_the_other_forms(self, folder: Path, capsys: Output) -> None:
        assert run("show", ID, "--html") == 0
        assert capsys.readouterr().out == "<b>hi</b>\n"
        assert run("show", ID, "--headers") == 0
        out = capsys.readouterr().out
        assert "Subject: Grüße\n" in out
        assert "\x1b" not in out
        assert run("show", "--html") == 1
        assert "has no HTML" in capsys.readouterr().err

    def test_raw_is_the_file(self, folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        assert run("show", ID, "--raw") == 0
        assert capfdbinary.readouterr().out == MAIL

    @pytest.mark.parametrize(
        "arguments", [["show", "--json", ID], ["--json", "show", ID], ["show", ID, "--json"]]
    )
    def test_json(self, folder: Path, capsys: Output, arguments: list[str]) -> None:
        assert run(*arguments) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["id"], found["text"], found["html"]) == (ID, "hi\x1b[2J there", "<b>hi</b>")
        assert found["attachments"] == [{"name": "a.pdf", "type": "application/pdf", "size": 3}]
        assert ["Subject", "Grüße"] in found["headers"]

    def test_latest_a_start_and_a_path(self, folder: Path, capsys: Output) -> None:
        for word in (["latest"], [], ["01890a5d-ac97"], [f"received_emails/2026_{OTHER}.eml"]):
            assert run("show", *word, "--json") == 0
            assert json.loads(capsys.readouterr().out)["id"] == OTHER

    def test_no_such_mail(self, folder: Path, capsys: Output) -> None:
        assert run("show", "ffff") == 1
        assert f"ffff: no such mail in {folder}" in capsys.readouterr().err

    @pytest.mark.parametrize("form", [[], ["--raw"], ["--html"], ["--headers"], ["--json"]])
    def test_a_fifo_is_not_waited_for(self, folder: Path, capsys: Output, form: list[str]) -> None:
        os.mkfifo(folder / "fifo")
        assert run("show", str(folder / "fifo"), *form) == 1
        assert "not a regular file" in "".join(capsys.readouterr())


class TestOpen:
    def test_without_a_terminal_it_prints_the_text(self, folder: Path, capsys: Output) -> None:
        assert run("open", ID) == 0
        assert capsys.readouterr().out.endswith("there\n")


class TestTailAndWait:
    def test_tail_shows_new_mails(self, folder: Path, capsys: Output) -> None:
        def later() -> None:
            for number in range(50):
                (folder / f"new-{number}").write_bytes(b"Subject: new\r\n\r\n")
                time.sleep(0.05)

        writing = threading.Thread(target=later)
        writing.start()
        assert run("tail", "--count", "2", "--json") == 0
        writing.join()
        found = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
        assert len(found) == 2
        assert all("/new-" in each["file"] for each in found)

    def test_wait_finds_a_mail_that_came_since_the_test_started(self, folder: Path, capsys: Output) -> None:
        assert run("wait", "--subject", "grüsse", "--timeout", "0") == 0
        assert ID in capsys.readouterr().out
        assert run("wait", "--to", "Bob <BOB@h.example>", "--from", "ada@h.example", "--json") == 0
        assert json.loads(capsys.readouterr().out)["id"] == ID

    def test_wait_says_what_the_nearest_miss(self, folder: Path, capsys: Output) -> None:
        assert run("wait", "--to", "x@y.example", "--subject", "Second", "--timeout", "0") == 1
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "smtp-relay: no such mail came within 0 s"
        assert lines[2] == "    to is empty, not x@y.example"
        assert lines[4].startswith(
            "    to is bob@h.example, not x@y.example; subject 'Grüße' does not contain"
        )
        assert run("wait", "--to", "x@y.example", "--timeout", "0", "--json") == 1
        found = json.loads(capsys.readouterr().out)
        assert [each["missed"] for each in found["nearest"]] == [
            ["to is empty, not x@y.example"],
            ["to is bob@h.example, not x@y.example"],
        ]

    def test_wait_says_that_nothing_came(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run("wait", "--timeout", "0") == 1
        assert "no mail came since" in capsys.readouterr().err


class TestDelete:
    def test_the_given_mails(self, folder: Path, capsys: Output) -> None:
        assert run("delete", ID, "--yes") == 0
        assert [path.name for path in folder.iterdir()] == [f"2026_{OTHER}.eml"]
        assert capsys.readouterr().out.endswith("1 deleted\n")

    def test_all(self, folder: Path, capsys: Output) -> None:
        (folder / ".hidden").touch()
        assert run("delete", "--all") == 0
        assert [path.name for path in folder.iterdir()] == [".hidden"]
        assert capsys.readouterr().out == "2 deleted\n"

    @pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
    def test_it_asks_in_a_terminal(
        self, folder: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
    ) -> None:
        import io
        import sys

        terminal = io.StringIO(answer)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        assert run("delete", "--all") == (1 if left else 0)
        assert len(list(folder.iterdir())) == left
        assert "Delete these 2 mails? [y/N]" in capsys.readouterr().err

    def test_never_elsewhere(self, folder: Path, tmp_path: Path, capsys: Output) -> None:
        outside = tmp_path / "outside.eml"
        outside.write_bytes(b"Subject: x\r\n\r\n")
        assert run("delete", str(outside), "--yes") == 2
        assert "is not in a folder of a file output" in capsys.readouterr().err
        (folder / "link").symlink_to(outside)
        (folder / "up").symlink_to(tmp_path, target_is_directory=True)
        assert run("delete", str(folder / "link"), str(folder / "up" / "outside.eml"), "--yes") == 1
        assert outside.exists()

    def test_a_mail_that_is_missing_is_told_and_the_others_are_deleted(
        self, folder: Path, capsys: Output
    ) -> None:
        assert run("delete", "ffff", ID, "--yes", "--json") == 1
        out, err = capsys.readouterr()
        assert json.loads(out)["id"] == ID
        assert "ffff: no such mail" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "x"], "takes no 'x'"),
        (["show", "a", "b"], "takes one mail, not 2"),
        (["delete"], "takes mails, or --all"),
        (["delete", "--all", "x"], "takes mails, or --all"),
        (["show", "01890a5d"], "is the start of 2 ids"),
        (["wait", "--since", "yesterday"], "'yesterday' is not a time"),
    ],
)
def test_a_mistake_is_2_and_one_line(folder: Path, capsys: Output, arguments: list[str], words: str) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1
    assert len(list(folder.iterdir())) == 2


def test_an_unknown_action_is_2_and_one_line(capsys: Output) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("frob")
    assert "invalid choice: 'frob'" in capsys.readouterr().err


def test_help_has_examples(capsys: Output) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    out = capsys.readouterr().out
    assert "smtp-relay mails wait --to ann@example.com" in out
    assert "--json prints" in out
