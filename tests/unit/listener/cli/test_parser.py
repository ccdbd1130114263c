"""Flags and words in any order, mistakes on one line, examples that work, and no traceback for any words."""

from __future__ import annotations

import getpass
import io
import os
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from listener.cli import main as cli
from listener.cli.main import COMMANDS
from listener.cli.parser import Parser


def a_parser() -> Parser:
    made = Parser(prog="x", description="x")
    made.add_argument("words", nargs="*")
    made.add_argument("-c", "--config")
    made.add_argument("-v", "--verbose", action="store_true")
    made.add_argument("-q", action="store_true")
    return made


@pytest.mark.parametrize(
    ("typed", "words", "config"),
    [
        ("a b", ["a", "b"], None),
        ("-v a -q b", ["a", "b"], None),
        ("a -c f b", ["a", "b"], "f"),
        ("a -cf b", ["a", "b"], "f"),
        ("a -vqc f b", ["a", "b"], "f"),
        ("a --config f -v b", ["a", "b"], "f"),
        ("a --config=f b", ["a", "b"], "f"),
        ("a --conf f b", ["a", "b"], "f"),
        ("-v a -- -c b", ["a", "-c", "b"], None),
        ("-c f -- --verbose", ["--verbose"], "f"),
        ("- a", ["-", "a"], None),
        ("-c - a", ["a"], "-"),
    ],
)
def test_flags_and_words_stand_in_any_order(typed: str, words: list[str], config: str | None) -> None:
    parser = a_parser()
    found = parser.parse_args(parser.arranged(typed.split()))
    assert (found.words, found.config) == (words, config)


@pytest.mark.parametrize(
    ("typed", "index"),
    [
        ("a", 0),
        ("-v a", 1),
        ("-c f a", 2),
        ("-vc f a", 2),
        ("-cf a", 1),
        ("--config=f a", 1),
        ("-v", None),
        ("-v -- a", None),
        ("-c f", None),
        ("-c", None),
        ("", None),
    ],
)
def test_the_first_word_is_no_value_of_a_flag(typed: str, index: int | None) -> None:
    assert a_parser().first_word(typed.split()) == index


def examples() -> list[tuple[str, str]]:
    found = [("", line) for line in cli._help().splitlines() if line.startswith("  smtp-relay")]
    for name in COMMANDS:
        lines = (cli.parser(name).epilog or "").splitlines()
        found += [(name, line) for line in lines if "smtp-relay" in line]
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    shown = out.partition("examples:")[2]
    assert f"smtp-relay {name}" in shown


@pytest.mark.parametrize(("name", "line"), examples())
def test_every_example_is_understood(
    name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Of a pipe or $( ) only this program's part counts.
    text = line[line.index("smtp-relay") :].split(")", maxsplit=1)[0].split(" | ", maxsplit=1)[0]
    words = shlex.split(text, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    for file in words:
        if file.endswith((".jsonc", ".json")):
            Path(file).touch()
    command, rest = cli._chosen(words[1:])
    assert not name or command == name
    parser = cli.parser(command)
    parser.parse_args(parser.arranged(rest))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["check", "--publik"], "did you mean --public?"),
        (["send", "--prot=1", "a@b"], "did you mean --port?"),
        (["deadletter", "lits"], "invalid choice: 'lits'"),
        (["dkim-generate"], "required: DOMAIN, SELECTOR"),
        (["send", "--timeout", "nan", "a@b"], "is not a number of seconds"),
        (["send", "--timeout", "-1", "a@b"], "is not a number of seconds"),
        (["send", "--port", "0", "a@b"], "is not a port"),
        (["auth-check", "x", "--ip", "::1", "--dns-port", "70000"], "is not a port"),
    ],
)
def test_a_mistake_is_one_line_and_2(
    typed: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(typed)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"smtp-relay {typed[0]}: ")
    assert words in line


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (["help"], "commands:"),
        (["help", "send"], "usage: smtp-relay send"),
        (["help", "nonsense"], "commands:"),
        (["version"], "smtp-relay 3"),
        (["-V"], "smtp-relay 3"),
        (["-v", "--help"], "usage: smtp-relay serve"),
        (["relay.jsonc", "--version"], "smtp-relay 3"),
    ],
)
def test_help_and_version_are_found(typed: list[str], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(typed)
    assert caught.value.code == 0
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("chekc", "did you mean 'check'? commands are serve, check,"),
        ("nonsense", "(commands are serve, check,"),
        ("", "(commands are"),
        ("x" * 5_000, "(commands are"),
        ("-", "(commands are"),
    ],
)
@pytest.mark.parametrize("before", [[], ["-v"]])
def test_a_word_that_is_neither_command_nor_file(
    word: str, words: str, before: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*before, word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "neither a command nor a file" in line
    assert words in line


@pytest.mark.parametrize("word", ["gone.jsonc", "gone.yml", "./gone", "gone/gone"])
def test_a_file_that_is_gone_is_a_file(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([word]) == 2
    assert "the file does not exist" in capsys.readouterr().err


def test_the_end_of_the_input_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(getpass, "getpass", ended)
    assert cli.main(["send", "--auth", "me", "a@b.test"]) == 2
    assert capsys.readouterr().err == "smtp-relay: the input ended before the answer\n"


FLAGS = sorted(
    {flag for name in COMMANDS for action in cli.parser(name).actions for flag in action.option_strings}
)
CHOICES = ["list", "show", "drop", "replay", "bash", "zsh", "fish", "ses", "mail2s3", "smarthost", "fargate"]
TEXTS = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    st.binary(max_size=12).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
)
"""What the kernel passes on: any bytes without NUL."""
WORDS = st.one_of(
    st.sampled_from(list(COMMANDS)),
    st.sampled_from(FLAGS),
    st.sampled_from(CHOICES),
    st.sampled_from(
        ["", "-", "--", "--=", "-=", "0", "-1", "nan", "1e999", "a@b", "x.json", "\udcff", "--x=%s%(y)s"]
    ),
    TEXTS,
    st.builds("{}={}".format, st.sampled_from(FLAGS), TEXTS),
)


@given(arguments=st.lists(WORDS, max_size=6))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_words_give_a_traceback(
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("listener.server.run.run", lambda config, reload: 0)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: "a password")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.chdir(tmp_path_factory.mktemp("fuzz"))
    try:
        status = cli.main(arguments)
    except SystemExit as end:
        status = end.code  # type: ignore[assignment]
    assert status in {0, 1, 2}, arguments
    assert "unexpected fault" not in caplog.text, (arguments, caplog.text)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "action"), [("mails", "show"), ("queue", "explain"), ("deadletter", "show")]
)
@pytest.mark.parametrize(
    "mail", ["latest", "019b7d2a", "019b7d2a-0000-7000-8000-000000000000", "mails/a.eml"]
)
def test_a_mail_without_an_action_is_looked_at(command: str, action: str, mail: str) -> None:
    parser = cli.parser(command)
    found = parser.parse_args(parser.arranged([mail, "--json"]))
    assert (found.action, found.ids, found.json) == (action, [mail], True)


@pytest.mark.parametrize("command", ["mails", "queue", "deadletter"])
def test_another_word_is_no_action(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli.parser(command)
    with pytest.raises(SystemExit):
        parser.parse_args(parser.arranged(["shwo"]))
    assert "invalid choice: 'shwo'" in capsys.readouterr().err
