"""The destinations of logs: levels, rotation, several processes."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from functions.errors import ConfigError
from listener.logs import handlers as log_handlers
from listener.logs import mail_log
from listener.logs.handlers import RotatingHandler
from listener.logs.options import LoggerOptions
from listener.logs.setup import TRACE, _install, configure

log = logging.getLogger("smtp_relay.test")


@pytest.fixture(autouse=True)
def undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks", "_srcfile"):
        if hasattr(logging, name):
            monkeypatch.setattr(logging, name, getattr(logging, name))
    yield
    _install([], logging.NOTSET)


def options(**given: Any) -> LoggerOptions:
    return LoggerOptions.model_validate({"type": "CONSOLE"} | given)


def test_the_console_is_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    configure(None, environ={})
    log.info("hello", extra={"id": "019b"})
    log.debug("not this")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith("Z hello id=019b\n")
    assert err.count("\n") == 1


def test_silence(capfd: pytest.CaptureFixture[str]) -> None:
    configure([])
    log.error("hello")
    logging.getLogger("some.library").error("hello")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("given", "environment", "least"),
    [
        ({}, "", logging.INFO),
        ({}, "debug", logging.DEBUG),
        ({}, "WARNING", logging.WARNING),
        ({}, "nonsense", logging.INFO),
        ({"level": "TRACE"}, "ERROR", TRACE),
        ({"level": "warn"}, "", logging.WARNING),
    ],
)
def test_the_level_is_the_logger_s_else_the_environment_s(
    given: dict[str, str], environment: str, least: int
) -> None:
    configure([options(**given)], environ={"LOG_LEVEL": environment})
    assert log.getEffectiveLevel() == least
    assert logging.getLogger("listener.x").getEffectiveLevel() == least
    # Libraries log secrets at DEBUG: aiosmtpd logs clients' lines.
    assert logging.getLogger("mail.log").getEffectiveLevel() == logging.WARNING


def test_each_destination_has_its_own_level(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure(
        [
            options(level="ERROR"),
            options(type="FILE", filepath="relay.log", level="DEBUG", format="json"),
        ],
        folder=tmp_path,
    )
    log.debug("fine", extra={"id": "1"})
    log.error("broken")
    assert "fine" not in capfd.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "relay.log").read_text().splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [("DEBUG", "fine"), ("ERROR", "broken")]


def test_configuring_again_replaces(tmp_path: Path) -> None:
    for name in ("first.log", "second.log"):
        configure([options(type="FILE", filepath=name)], folder=tmp_path)
        log.info("in %s", name)
    assert "in first.log" in (tmp_path / "first.log").read_text()
    assert "in second.log" not in (tmp_path / "first.log").read_text()


def test_a_file_that_cannot_be_written_is_a_mistake_and_changes_nothing(tmp_path: Path) -> None:
    configure([options(type="FILE", filepath="a.log")], folder=tmp_path)
    with pytest.raises(ConfigError, match=r"loggers\[1\]\.filepath: .*missing"):
        configure([options(), options(type="FILE", filepath="missing/b.log")], folder=tmp_path)
    log.info("still here")
    assert "still here" in (tmp_path / "a.log").read_text()


@pytest.mark.parametrize(
    "given",
    [
        {"type": "FILE"},
        {"type": "CONSOLE", "filepath": "x"},
        {"format": "xml"},
        {"format": "%(x)s"},
        {"level": "LOUD"},
        {"sizeLimit": -1},
        {"keep": 0},
        {"unknown": 1},
    ],
)
def test_mistakes_in_options(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**given)


def test_a_full_file_is_renamed_with_the_next_number(tmp_path: Path) -> None:
    configure([options(type="FILE", filepath="r.log", sizeLimit=1_000, format="%(m)s")], folder=tmp_path)
    (tmp_path / "r.log.7").write_text("from before")
    (tmp_path / "r.log.bak").write_text("somebody's")
    for number in range(60):
        log.info("%04d %s", number, "x" * 44)
    files = [tmp_path / "r.log.7", *(tmp_path / f"r.log.{n}" for n in (8, 9)), tmp_path / "r.log"]
    assert sorted(tmp_path.iterdir()) == sorted([*files, tmp_path / "r.log.bak"])
    assert all(file.stat().st_size <= 1_000 for file in files)
    lines = "".join(file.read_text() for file in files[1:]).splitlines()
    assert [int(line[:4]) for line in lines] == list(range(60))


def fill(folder: Path, rotations: int) -> None:
    for number in range(rotations + 1):
        log.info("%04d %s", number, "x" * 944)


def test_a_rotation_removes_the_oldest_of_its_own_files(tmp_path: Path) -> None:
    configure([options(type="FILE", filepath="r.log", sizeLimit=1_000, format="%(m)s")], folder=tmp_path)
    fill(tmp_path, 25)
    rotated = {f"r.log.{number}" for number in range(16, 26)}
    assert {file.name for file in tmp_path.iterdir()} == {"r.log", *rotated}
    assert (tmp_path / "r.log.16").read_text().startswith("0015 ")


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_are_kept_as_keep_says(tmp_path: Path, keep: int) -> None:
    given = options(type="FILE", filepath="r.log", sizeLimit=1_000, keep=keep, format="%(m)s")
    configure([given], folder=tmp_path)
    fill(tmp_path, 7)
    rotated = {f"r.log.{number}" for number in range(8 - keep, 8)}
    assert {file.name for file in tmp_path.iterdir()} == {"r.log", *rotated}


def test_null_keeps_all(tmp_path: Path) -> None:
    given = options(type="FILE", filepath="r.log", sizeLimit=1_000, keep=None, format="%(m)s")
    configure([given], folder=tmp_path)
    fill(tmp_path, 25)
    assert len(list(tmp_path.iterdir())) == 26


def test_files_that_no_rotation_named_stay(tmp_path: Path) -> None:
    theirs = [
        "r.log.bak",
        "r.log.3.gz",
        "r.log.007",
        "r.log.0",
        "r.log.20260102",
        "r.log.-1",
        "r.log1",
        "xr.log.1",
    ]
    for name in (*theirs, "r.log.1"):
        (tmp_path / name).write_text("theirs")
    (tmp_path / "r.log.2").mkdir()
    (tmp_path / "r.log.4").symlink_to("r.log.bak")
    given = options(type="FILE", filepath="r.log", sizeLimit=1_000, keep=2, format="%(m)s")
    configure([given], folder=tmp_path)
    assert (tmp_path / "r.log.1").exists(), "only a rotation removes"
    fill(tmp_path, 6)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"r.log", *theirs, "r.log.2", "r.log.4", "r.log.8", "r.log.9"}
    assert (tmp_path / "r.log.9").read_text().startswith("0005 ")
    assert (tmp_path / "r.log.4").is_symlink()


def test_no_limit(tmp_path: Path) -> None:
    configure([options(type="FILE", filepath="r.log", sizeLimit=0)], folder=tmp_path)
    for _ in range(100):
        log.info("x" * 2_000)
    assert [file.name for file in tmp_path.iterdir()] == ["r.log"]


def test_a_line_larger_than_the_limit_is_written_whole(tmp_path: Path) -> None:
    configure([options(type="FILE", filepath="r.log", sizeLimit=10, format="%(m)s")], folder=tmp_path)
    log.info("a" * 100)
    log.info("b" * 100)
    assert (tmp_path / "r.log.1").read_text() == "a" * 100 + "\n"
    assert (tmp_path / "r.log").read_text() == "b" * 100 + "\n"


def test_a_rotation_from_outside_is_followed(tmp_path: Path) -> None:
    configure([options(type="FILE", filepath="r.log", format="%(m)s")], folder=tmp_path)
    first = logging.makeLogRecord({"msg": "one", "levelno": logging.INFO, "created": 100.0})
    second = logging.makeLogRecord({"msg": "two", "levelno": logging.INFO, "created": 102.0})
    (handler,) = [each for each in logging.getLogger().handlers if isinstance(each, RotatingHandler)]
    handler.handle(first)
    (tmp_path / "r.log").rename(tmp_path / "r.log.old")
    handler.handle(second)
    assert (tmp_path / "r.log").read_text() == "two\n"


def _worker(folder: str, worker: int) -> None:
    for number in range(300):
        log.info("%d:%04d %s", worker, number, "y" * 40)


def test_workers_share_a_rotating_file(tmp_path: Path) -> None:
    # Forked after the handler was made, as the server's workers are.
    given = options(type="FILE", filepath="r.log", sizeLimit=4_000, keep=None, format="%(m)s")
    configure([given], folder=tmp_path)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_worker, args=(str(tmp_path), worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    lines = "".join(file.read_text() for file in tmp_path.iterdir()).splitlines()
    assert sorted(line[:6] for line in lines) == [f"{w}:{n:04d}" for w in range(3) for n in range(300)]
    assert all(len(line) == 47 for line in lines)
    # Each process checks by itself, so a file may grow past the limit by the lines of others
    # meanwhile.
    assert len(list(tmp_path.iterdir())) > 2


def test_a_full_disk_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure([options(type="FILE", filepath="r.log")], folder=tmp_path)
    real = log_handlers.write_line

    def full(fd: int, line: bytes) -> None:
        if fd != 2:
            raise OSError(28, "No space left on device")
        real(fd, line)

    monkeypatch.setattr(log_handlers, "write_line", full)
    log.info("one")
    log.info("two")
    err = capfd.readouterr().err
    assert err.count("No space left on device") == 1
    assert err.count("\n") == 1


def _accepted(number: int) -> None:
    mail_log.info(log, "mail accepted", {"number": f"{number:04d}", "padding": "x" * 44})


def test_lines_of_mails_wait_for_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure([options(type="FILE", filepath="r.log")], folder=tmp_path)
    written: list[bytes] = []
    real = log_handlers.write_line

    def noting(fd: int, line: bytes) -> None:
        written.append(line)
        real(fd, line)

    monkeypatch.setattr(log_handlers, "write_line", noting)
    assert mail_log.info(log, "mail accepted", {"number": "first"})
    assert not mail_log.info(log, "mail accepted", {"number": "second"})
    assert (tmp_path / "r.log").read_text() == ""
    mail_log.flush()
    assert [line.count(b"\n") for line in written] == [2]
    mail_log.flush()
    assert len(written) == 1
    assert mail_log.info(log, "mail accepted", {"number": "third"})
    configure(None, environ={})
    numbers = [line.rpartition("=")[2] for line in (tmp_path / "r.log").read_text().splitlines()]
    assert numbers == ["first", "second", "third"]


def test_another_line_never_overtakes_those_of_mails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure([options(), options(type="FILE", filepath="r.log")], folder=tmp_path)
    for number in range(200):
        _accepted(number)
        if number % 70 == 5:
            log.warning("between number=%s padding=", f"{number:04d}")
    mail_log.flush()
    for text in (capfd.readouterr().err, (tmp_path / "r.log").read_text()):
        numbers = [line.split("number=")[1][:4] for line in text.splitlines()]
        assert numbers == [f"{n:04d}" for n in range(200) for _ in range(2 if n % 70 == 5 else 1)]


def test_lines_that_waited_do_not_outgrow_a_file(tmp_path: Path) -> None:
    configure([options(type="FILE", filepath="r.log", sizeLimit=1_000)], folder=tmp_path)
    for number in range(60):
        _accepted(number)
    mail_log.flush()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 5
    assert all(file.stat().st_size <= 1_000 for file in files)
    assert sum(file.read_text().count("mail accepted") for file in files) == 60


def test_a_console_that_takes_no_more_drops_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    monkeypatch.setattr(log_handlers, "_PATIENCE", 1)
    line = b"z" * 9_999 + b"\n"
    for _ in range(20):
        log_handlers.write_line(writer, line)
    assert os.read(reader, 10_000) == line
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        log_handlers.write_line(writer, line)
    os.close(writer)
