"""The text format of a console: what a person reads of a mail, a refusal and an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.logs import console, mail_log
from listener.logs.console import ACCEPTED, STARTING, ConsoleFormat, size
from listener.logs.options import LoggerOptions
from listener.logs.setup import _install, configure

AT = 1767315723.678  # 2026-01-02T01:02:03.678Z
MAIL: dict[str, Any] = {
    "id": "019b7d2a-0000-7000-8000-000000000000",
    "session": "019b7d2a-1111-7000-8000-000000000000",
    "ip": "192.0.2.1",
    "size": 5_120,
    "flows": "in",
    "recipients": 1,
    "from": "app@example.com",
    "to": "you@example.com",
    "subject": "Welcome",
    "file": "/elsewhere/received_emails/one.eml",
}
IDS = f"ip=192.0.2.1 flows=in id={MAIL['id']} session={MAIL['session']}"


@pytest.fixture(autouse=True)
def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(console.os, "isatty", lambda fd: True)
    monkeypatch.setattr(console.time, "localtime", console.time.gmtime)
    monkeypatch.setattr(console, "_last", (0, ""))
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks", "_srcfile"):
        if hasattr(logging, name):
            monkeypatch.setattr(logging, name, getattr(logging, name))
    yield
    _install([], logging.NOTSET)


def line(*, ids: bool = False, **facts: Any) -> str:
    return ConsoleFormat(ids=ids).line(AT, "smtp_relay.smtp", ACCEPTED, MAIL | facts)


def record(level: int, message: str, *, name: str = "smtp_relay.delivery", **extra: Any) -> str:
    logger = logging.getLogger(name)
    made = logger.makeRecord(name, level, "", 0, message, (), None, extra=extra)
    made.created = AT
    return ConsoleFormat().format(made)


def test_a_mail_is_one_line_with_what_a_reader_wants() -> None:
    assert line() == (
        '01:02:03 app@example.com → you@example.com  "Welcome"  5.1 kB  /elsewhere/received_emails/one.eml'
    )


def test_a_file_below_the_working_folder_is_shown_from_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert line(file=f"{tmp_path}/received_emails/one.eml").endswith("  5.1 kB  received_emails/one.eml")


def test_several_recipients_are_the_first_and_a_number() -> None:
    assert " → you@example.com +2  " in line(recipients=3, to="you@example.com,b@x.example,c@x.example")


def test_a_comma_in_a_local_part_ends_no_address() -> None:
    assert ' → "a,b"@x.example  ' in line(to='"a,b"@x.example')
    assert ' → "a,b"@x.example,c@x.example  ' in line(recipients=2, to='"a,b"@x.example,c@x.example')


def test_a_bounce_has_an_empty_sender_and_a_mail_may_have_no_subject() -> None:
    assert line(**{"from": "", "subject": None}).startswith("01:02:03 <> → you@example.com  (no subject)  ")


def test_the_user_follows() -> None:
    assert line(user="alice").endswith("one.eml  user=alice")
    assert line(user="a b").endswith('one.eml  user="a b"')


def test_ids_come_last_and_only_where_all_are_shown() -> None:
    assert "019b7d2a" not in line()
    assert line(ids=True).endswith(f"one.eml  {IDS}")


def test_without_addresses_the_ids_find_the_mail() -> None:
    facts = {key: value for key, value in MAIL.items() if key not in {"from", "to", "subject", "file"}}
    facts |= {"from_domain": "example.com", "recipients": 2}
    text = ConsoleFormat().line(AT, "smtp_relay.smtp", ACCEPTED, facts)
    assert text == f"01:02:03 @example.com → 2 recipients  5.1 kB  {IDS}"


@pytest.mark.parametrize("hostile", ["\n01:02:03 forged", "\x1b[2J", "\u202egpj.exe", "\r", "\x7f", "\u2028"])
@pytest.mark.parametrize("fact", ["from", "to", "subject", "file", "user"])
def test_no_mail_forges_a_line(fact: str, hostile: str) -> None:
    text = line(**{fact: f"a{hostile}b"})
    assert text.isprintable()
    assert len(text.splitlines()) == 1


def test_a_subject_cannot_end_its_quotes() -> None:
    assert r'  "a\"  9 kB  \\b"  5.1 kB' in line(subject='a"  9 kB  \\b')


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (5_120, "5.1 kB"), (9_960, "10 kB"), (40_000, "40 kB"),
     (999_600, "1.0 MB"), (12_345_678, "12 MB"), (3_000_000_000, "3.0 GB")],
)  # fmt: skip
def test_sizes_have_two_digits(octets: int, text: str) -> None:
    assert size(octets) == text


def test_other_lines_end_with_the_id_and_show_the_level_only_if_it_matters() -> None:
    facts = {"id": "019b", "session": "019c", "flow": "in", "reason": "it is closed"}
    assert (
        record(logging.INFO, "finished", **facts) == '01:02:03 finished flow=in reason="it is closed" id=019b'
    )
    warned = record(logging.WARNING, "output failed", **facts)
    assert warned == '01:02:03 [ WARN] output failed flow=in reason="it is closed" id=019b'


def test_a_library_is_named() -> None:
    assert record(logging.ERROR, "broken", name="asyncio") == "01:02:03 [ERROR] asyncio: broken"


def test_the_start_is_sentences() -> None:
    text = record(logging.INFO, "listening on [::1]:25", name=STARTING, addresses=["[::1]:25"])
    assert text == "01:02:03 listening on [::1]:25"


def test_outside_of_a_terminal_a_line_has_its_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.os, "isatty", lambda fd: False)
    assert line().startswith("2026-01-02T01:02:03.678Z app@example.com → ")


def test_a_console_and_a_file_have_their_own_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = LoggerOptions(type="FILE", filepath="relay.log")
    configure([LoggerOptions(type="CONSOLE"), file], folder=tmp_path, environ={})
    log = logging.getLogger("smtp_relay.smtp")
    for _ in range(2):
        mail_log.info(log, ACCEPTED, MAIL)
    mail_log.flush()
    err = capfd.readouterr().err
    assert err.count(' app@example.com → you@example.com  "Welcome"  5.1 kB  ') == 2
    assert "019b7d2a" not in err
    text = (tmp_path / "relay.log").read_text()
    assert text.count("smtp_relay.smtp: mail accepted id=019b7d2a-0000-7000-8000-000000000000 session=") == 2


def test_a_console_at_debug_shows_all_ids(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure([LoggerOptions(type="CONSOLE", level="DEBUG")], environ={})
    mail_log.info(logging.getLogger("smtp_relay.smtp"), ACCEPTED, MAIL)
    mail_log.flush()
    assert capfd.readouterr().err.endswith(f"one.eml  {IDS}\n")
