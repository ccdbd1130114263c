"""`queue`: the sentences, the meaning of arguments, and the output, over mails in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.errors import Permanent, Temporary
from functions.spool.dead_record import DeadRecord
from functions.spool.queue import Failure, QueuedMail
from listener.cli import main as cli
from listener.cli.mails.queue import Sentences, line, span
from listener.config.relay import RelayConfig

NOW = 1_800_000_000_000
A, B = "01890a5d-ac96-774b-bcce-b302099a8001", "01890a5d-ac97-774b-bcce-b302099a8002"


def failure(**more: Any) -> Failure:
    known = {"id": A, "key": "k", "flow": "in", "output": "relay", "code": "4.4.1", "at": NOW, "attempts": 3}
    return Failure(**{**known, "reason": "mail.example.com refused the connection", **more})  # type: ignore[arg-type]


def dead(**more: Any) -> DeadRecord:
    known = {"id": A, "key": "k", "flow": "in", "output": "relay", "code": "5.1.1", "first": 0, "last": NOW}
    return DeadRecord(**{**known, "reason": "no such user", **more})  # type: ignore[arg-type]


def queued(mail_id: str = A, **more: Any) -> QueuedMail:
    known = {"state": "waiting", "received": NOW - 60_000, "reverse_path": "a@b.example", "attempts": 0}
    return QueuedMail(id=mail_id, **{**known, "recipients": ("c@d.example",), "next": 0, **more})  # type: ignore[arg-type]


def sentence(mail: QueuedMail, *, owned: bool | None = True, **delivery: Any) -> str:
    config = RelayConfig.model_validate({"flows": {"in": {}}, "delivery": delivery}, by_alias=True)
    return Sentences(owned, config, NOW).about(mail)


class TestSentences:
    def test_an_output_that_fails(self) -> None:
        text = sentence(queued(attempts=3, next=NOW + 40_000, failures=(failure(),)))
        assert text.startswith(
            "waits because output in/relay failed 3 times: mail.example.com refused the connection (4.4.1); "
            "next attempt at "
        )
        assert "(in 40 s); given up at " in text

    @pytest.mark.parametrize(
        ("mail", "owned", "words"),
        [
            (queued(), True, "waits for its first attempt; next attempt now"),
            (queued(), False, "the next attempt is made when one starts"),
            (queued(attempts=2), True, "waits after 2 attempts, whose reasons are not recorded"),
            (queued(under_way=True), True, "waits for its first attempt; an attempt is under way"),
            (queued(under_way=True), None, "waits for its first attempt; an attempt is under way"),
            (queued(under_way=True), False, "in doubt: a server ended during an attempt"),
            (queued(failures=(failure(attempts=1),)), True, "failed once: "),
            (queued(failures=(failure(attempts=2),)), True, "failed twice: "),
            (queued(failures=(failure(in_doubt=True),)), True, "that attempt is in doubt: it got no answer"),
            (
                queued(failures=(failure(), failure(output="copy"))),
                True,
                " and output in/copy failed 3 times",
            ),
            (queued(received=0, failures=(failure(),)), True, "given up when that fails"),
            (
                queued(failures=(failure(),), dead=(dead(output="b"),)),
                True,
                "output in/b was given up after 1",
            ),
            (queued(state="parked", dead=(dead(),)), True, f"`smtp-relay deadletter replay {A}`"),
            (
                queued(state="parked", dead=(dead(attempts=5),)),
                True,
                "in/relay was given up after 5 attempts: no",
            ),
            (queued(state="parked", dead=(dead(flow="", output="unknown"),)), True, "the mail was given up"),
            (queued(state="unreadable"), True, "cannot be read in the spool"),
            (queued(attempts=None, next=None), None, "waits for its function"),
        ],
    )
    def test_every_state(self, mail: QueuedMail, owned: bool | None, words: str) -> None:
        assert words in sentence(mail, owned=owned)

    def test_a_doubt_says_what_becomes_of_it(self) -> None:
        assert "it is sent again" in sentence(queued(under_way=True), owned=False)
        assert "it is given up" in sentence(queued(under_way=True), owned=False, onDoubt="dead-letter")

    def test_a_reason_cannot_steer_a_terminal(self) -> None:
        mail = queued(failures=(failure(reason="x\x1b[2J\ny"),), recipients=("\x1b]0;x\x07@d.example",))
        assert sentence(mail).isprintable()
        assert line(mail, NOW).isprintable()

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (300, "5 min"), (9_000, "2 h"), (260_000, "3 d")]
    )
    def test_durations(self, seconds: float, text: str) -> None:
        assert span(seconds) == text


class InMemory:
    """A spool that is a list."""

    def __init__(self, *mails: QueuedMail) -> None:
        self.held = list(mails)
        self.owned: bool | None = True
        self.fault: Exception | None = None
        self.retried: list[str] | None = None

    def ids(self, *, parked: bool = True) -> Iterator[tuple[str, int]]:
        if self.fault is not None:
            raise self.fault
        return iter([(mail.id, mail.received or 0) for mail in self.held if parked or mail.state != "parked"])

    def mails(self, ids: Iterable[str] | None = None, *, claims: bool = False) -> Iterator[QueuedMail]:
        if self.fault is not None:
            raise self.fault
        wanted = None if ids is None else set(ids)
        return (mail for mail in self.held if wanted is None or mail.id in wanted)

    def retry(self, ids: Iterable[str] | None) -> list[str]:
        if self.fault is not None:
            raise self.fault
        wanted = None if ids is None else set(ids)
        due = [one.id for one in self.held if one.state != "parked" and (wanted is None or one.id in wanted)]
        self.retried = due
        return due

    def buried(self, mail_id: str) -> list[DeadRecord]:
        return [dead(id=mail_id)] if mail_id == "gone" else []


@pytest.fixture
def spool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> InMemory:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".smtp-relay").mkdir()
    made = InMemory(queued(A), queued(B, received=NOW, state="parked", dead=(dead(id=B),)))
    monkeypatch.setattr("listener.cli.mails.queue.open_queue", lambda config, folder, environ: made)
    return made


def run(*arguments: str) -> int:
    return cli.main(["queue", *arguments])


Output = pytest.CaptureFixture[str]


class TestCommand:
    @pytest.mark.parametrize("arguments", [[], ["list"]])
    def test_list(self, spool: InMemory, capsys: Output, arguments: list[str]) -> None:
        assert run(*arguments) == 0
        out = capsys.readouterr().out.splitlines()
        assert [each.partition(" ")[0] for each in out] == [A, B, "1"]
        assert out[-1] == "1 waiting, 1 given up"

    @pytest.mark.parametrize("arguments", [["--json"], ["list", "--json"], ["--json", "list"]])
    def test_json_has_one_object_per_mail(
        self, spool: InMemory, capsys: Output, arguments: list[str]
    ) -> None:
        assert run(*arguments) == 0
        found = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
        assert [each["id"] for each in found] == [A, B]
        assert set(found[0]) == {
            *("id", "state", "received", "reverse_path", "recipients", "flows", "size", "attempts", "next"),
            *("failures", "dead", "under_way"),
        }

    @pytest.mark.parametrize(
        ("word", "mail_id"), [("latest", B), (A, A), (A.upper(), A), ("01890a5d-ac97", B)]
    )
    def test_explain(self, spool: InMemory, capsys: Output, word: str, mail_id: str) -> None:
        assert run("explain", word) == 0
        assert capsys.readouterr().out.startswith(f"{mail_id}: ")

    def test_explain_without_a_word_is_about_the_latest(self, spool: InMemory, capsys: Output) -> None:
        assert run("--json", "explain") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["id"], found["state"]) == (B, "parked")
        assert "given up" in found["sentence"]

    def test_explain_a_mail_that_is_gone(self, spool: InMemory, capsys: Output) -> None:
        assert run("explain", "gone") == 0
        assert "is not in the spool any more; output in/relay was given up" in capsys.readouterr().out
        assert run("explain", "ffff") == 1
        assert "ffff: is not in the spool: every output has delivered it, or" in capsys.readouterr().out

    def test_explain_a_mail_that_is_stored(self, spool: InMemory, capsys: Output) -> None:
        stored = Path("received_emails")
        stored.mkdir()
        (stored / "x_01890a5d-ac98-774b-bcce-b302099a8003.eml").write_bytes(b"Subject: x\r\n\r\n")
        for word in ("01890a5d-ac98", f"{stored}/x_01890a5d-ac98-774b-bcce-b302099a8003.eml"):
            assert run("explain", word) == 0
            assert (
                "01890a5d-ac98-774b-bcce-b302099a8003: is delivered, and stored as "
                in capsys.readouterr().out
            )

    def test_explain_a_mail_that_two_outputs_stored(self, spool: InMemory, capsys: Output) -> None:
        name = "01890a5d-ac98-774b-bcce-b302099a8003.eml"
        paths = [Path("received_emails") / f"{output}_{name}" for output in "xy"]
        paths[0].parent.mkdir()
        for path in paths:
            path.write_bytes(b"Subject: x\r\n\r\n")
        assert run("explain", "01890a5d-ac98") == 0
        out = capsys.readouterr().out
        assert " and " in out.partition("is delivered, and stored as ")[2]
        assert all(str(path) in out for path in paths)

    def test_explain_an_empty_spool(self, spool: InMemory, capsys: Output) -> None:
        spool.held.clear()
        assert run("explain") == 0
        assert capsys.readouterr().out == "no mail is in the spool\n"

    def test_retry(self, spool: InMemory, capsys: Output) -> None:
        assert run("retry", "01890a5d-ac96") == 0
        assert spool.retried == [A]
        assert capsys.readouterr().out == f"{A}\n1 to be tried now\n"
        assert run("retry", "--all", "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"id": A}

    def test_retry_of_a_mail_that_is_given_up_names_the_command(
        self, spool: InMemory, capsys: Output
    ) -> None:
        assert run("retry", B) == 1
        assert f"`smtp-relay deadletter replay {B}`" in capsys.readouterr().err
        assert run("retry", "ffff") == 1
        assert "ffff: is not in the spool" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["retry"], "give ids, or --all"),
            (["list", A], "takes no ids"),
            (["explain", A, B], "takes one mail, not 2"),
            (["explain", "01890a5d"], "start of 2 ids"),
            (["--all"], "goes with retry"),
            (["retry", "--all", A], "goes with retry, without ids"),
        ],
    )
    def test_a_mistake_is_2_and_one_line(
        self, spool: InMemory, capsys: Output, arguments: list[str], words: str
    ) -> None:
        assert run(*arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert words in err
        assert len(err.splitlines()) == 1

    @pytest.mark.parametrize("fault", [Temporary("no answer"), Permanent("denied\x1b")])
    @pytest.mark.parametrize("action", [["list"], ["explain"], ["retry", "--all"], ["retry", A]])
    def test_a_spool_that_refuses_is_1(
        self, spool: InMemory, capsys: Output, fault: Exception, action: list[str]
    ) -> None:
        spool.fault = fault
        assert run(*action) == 1
        err = capsys.readouterr().err
        assert err.startswith("smtp-relay: file://./.smtp-relay: ")
        assert len(err.splitlines()) == 1

    def test_no_server_and_no_folder_are_said(self, spool: InMemory, capsys: Output) -> None:
        spool.owned = False
        assert run() == 0
        assert capsys.readouterr().out.endswith("(no server seems to run on this spool)\n")
        Path(".smtp-relay").rmdir()
        spool.held.clear()
        assert run() == 0
        assert "does not exist: no server has started here" in capsys.readouterr().out

    def test_an_unknown_action_is_2(self, capsys: Output) -> None:
        with pytest.raises(SystemExit, match="2"):
            run("frob")
        assert "invalid choice: 'frob'" in capsys.readouterr().err

    def test_help_has_examples(self, capsys: Output) -> None:
        with pytest.raises(SystemExit):
            run("--help")
        out = capsys.readouterr().out
        assert "smtp-relay queue explain latest" in out
        assert "--json prints" in out
