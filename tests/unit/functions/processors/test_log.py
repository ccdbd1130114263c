"""Output `log`: one structured record."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from functions.processors.context import BuildContext
from functions.processors.log import LogOutputOptions, build
from tests.support.mails.jobs import job_of

LOGGER = "smtp_relay.output.log"
STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def run(content: bytes, caplog: pytest.LogCaptureFixture, **options: Any) -> list[dict[str, Any]]:
    processor = build(LogOutputOptions(**options), "log_0", BuildContext.of(Path("/"), {}, durable=False))
    job = job_of(content, flows=("f",), id="019b7d2a-0000-7000-8000-000000000000", session="s")
    assert processor.process(job) is None
    return [
        {key: value for key, value in vars(record).items() if key not in STANDARD}
        for record in caplog.records
        if record.name == LOGGER
    ]


def test_one_record_shows_the_fields_that_the_mail_has(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    content = b"From: Bob <bob@x>\r\nTo: a@x, b@x\r\nSubject: =?utf-8?q?h=C3=A9?=\r\n\r\nhello\r\n"
    assert run(content, caplog) == [
        {
            "id": "019b7d2a-0000-7000-8000-000000000000",
            "session": "s",
            "flow": "f",
            "output": "log_0",
            "size": len(content),
            "from": ["Bob <bob@x>"],
            "to": ["a@x", "b@x"],
            "subject": "hé",
            "text": "hello\n",
        }
    ]


def test_only_the_chosen_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    (record,) = run(b"Subject: x\r\n\r\nsecret\r\n", caplog, fields=("subject",))
    assert set(record) == {"id", "session", "flow", "output", "size", "subject"}
    caplog.clear()
    (record,) = run(b"Subject: x\r\n\r\nsecret\r\n", caplog, fields=())
    assert set(record) == {"id", "session", "flow", "output", "size"}


def test_the_text_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    (record,) = run(b"\r\n" + b"x" * 3_000_000, caplog)
    assert len(record["text"]) == 10_000


def test_nothing_is_read_when_no_logger_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    assert run(b"Subject: x\r\n\r\n", caplog) == []


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="fields"):
        LogOutputOptions.model_validate({"fields": ["body"]})
    assert LogOutputOptions().identity() == "log:from,to,cc,bcc,subject,text"
    assert LogOutputOptions(name="n").identity() == "n"


def test_little_of_a_mail_is_read_since_the_event_loop_waits(caplog: pytest.LogCaptureFixture) -> None:
    """A client that sends a quarter of a megabyte of tags, words or parts must not delay all the others."""
    caplog.set_level(logging.INFO, LOGGER)
    html = b"Content-Type: text/html\r\n\r\n<p>seen" + b"<b></b>" * 10_000 + b"unseen"
    parts = b"Content-Type: multipart/mixed; boundary=b\r\n" + b"\r\n--b\r\n\r\nx" * 1_000
    words = b"From: first@a.example,\r\n" + b" a a a a,\r\n" * 8_000 + b" last@b.example\r\n\r\n"
    for mail in (html, parts, words):
        started = time.thread_time()
        run(mail, caplog)
        assert time.thread_time() - started < 0.5
    records = [record for record in caplog.records if record.name == LOGGER]
    assert records[0].__dict__["text"] == "seen"
    assert records[1].__dict__["text"].count("x") < 100
    shown = records[2].__dict__["from"]
    assert shown[0] == "first@a.example"
    assert shown[-1] != "last@b.example"
